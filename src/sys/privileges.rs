//! Giving up what a serving process does not need: root's identity, capabilities, and the chance
//! to get any of it back.
//!
//! The order is fixed by the kernel: whoever is to be looked up is looked up first, the root
//! folder changes while that is still allowed, groups go before the user, capabilities last.
//! Credentials belong to threads, so all of it needs a process of one thread.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::access::append_options;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

/// Who a process becomes that was started as root and is told nothing else.
pub(crate) const USER_DEFAULT: &str = "nobody";

/// The ids of `nobody` where no file names them: those that the kernel shows for whom it does
/// not know (`/proc/sys/kernel/overflowuid`).
const NOBODY_ID: u32 = 65_534;

/// The most that is read of a file of users or groups, in bytes.
const ACCOUNTS_BYTES_MAX: u64 = 4 << 20;

/// A user with the group it acts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    uid: u32,
    gid: u32,
}

impl Identity {
    /// The name that was asked for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its ids, user and group.
    #[must_use]
    pub fn ids(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// Opens a file to append to. If it is created, it belongs to this identity, which can then
    /// open it again. No symbolic link is followed: the folder may be writable to the identity,
    /// and this process may still be root.
    ///
    /// # Errors
    /// What open(2) and fchown(2) report.
    pub fn open_to_append(&self, path: &Path) -> io::Result<File> {
        let created = File::options().append(true).create_new(true).open(path);
        match created {
            Ok(file) => {
                self.own(&file)?;
                Ok(file)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => append_options(path)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(path),
            Err(error) => Err(error),
        }
    }

    /// Makes it the owner of an open file that this process has just created.
    ///
    /// # Errors
    /// What fchown(2) reports.
    pub fn own(&self, file: impl AsFd) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        Ok(rustix::fs::fchown(file, Some(uid), Some(gid))?)
    }
}

/// The capabilities that a process keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// `CAP_NET_BIND_SERVICE`, for listeners on ports below 1024 that a reload adds. Only what
    /// the process has is kept.
    BindService,
    /// That, and what a supervisor needs besides.
    Supervisor {
        /// `CAP_SYS_CHROOT`, for the programs that it starts: see [`pass_on_exec`].
        enters_root: bool,
        /// `CAP_DAC_READ_SEARCH`, which is only in effect while it reads: see [`while_reading`].
        reads_all: bool,
    },
    /// None.
    Nothing,
}

impl Keep {
    fn set(self) -> CapabilitySet {
        let mut set = CapabilitySet::empty();
        set.set(CapabilitySet::NET_BIND_SERVICE, self != Self::Nothing);
        if let Self::Supervisor {
            enters_root,
            reads_all,
        } = self
        {
            set.set(CapabilitySet::SYS_CHROOT, enters_root);
            set.set(READ_ALL, reads_all);
        }
        set
    }
}

/// To read files whoever they belong to, and to find them (capabilities(7)).
const READ_ALL: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// To whom capabilities are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heir {
    /// Workers, which read nothing.
    Worker,
    /// A program that takes the place of this one, or is to be tried for that.
    Successor,
}

/// The account that settings name and the machine does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The user, and what is wrong with it.
    User(String),
    /// The group, and what is wrong with it.
    Group(String),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(why) | Self::Group(why) => f.write_str(why),
        }
    }
}

/// Whom these settings name: for root the default user when there is none, for others themselves.
///
/// Names are looked up in /etc/passwd and /etc/group alone, not through the C library: that may
/// load modules and ask the network, as root and before the service runs, and a service's user
/// is in these files. A user that is not can be given by number.
///
/// # Errors
/// Nobody of that name.
pub fn look_up(user: Option<&str>, group: Option<&str>) -> Result<Identity, Unknown> {
    let accounts = Accounts::read();
    if geteuid().is_root() || user.is_some() {
        accounts.identity(user.unwrap_or(USER_DEFAULT), group)
    } else {
        let own = geteuid().as_raw().to_string();
        let gid = getegid().as_raw();
        accounts.identity_in(&own, geteuid().as_raw(), Some(gid), group)
    }
}

/// Who the process is to become: none when it stays who it is.
///
/// # Errors
/// One line for the operator: nobody of that name, or not root and someone else is asked for.
pub fn identity(user: Option<&str>, group: Option<&str>) -> Result<Option<Identity>, String> {
    let is_root = geteuid().is_root();
    if !is_root && user.is_none() && group.is_none() {
        return Ok(None);
    }
    let found = look_up(user, group).map_err(|unknown| unknown.to_string())?;
    if is_root {
        return Ok(Some(found));
    }
    if (found.uid, found.gid) == (geteuid().as_raw(), getegid().as_raw()) {
        return Ok(None);
    }
    Err(format!(
        "cannot become user {} ({}:{}): only root can, and this process was started as {}:{}",
        found.name,
        found.uid,
        found.gid,
        geteuid().as_raw(),
        getegid().as_raw()
    ))
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Makes a folder the root of all paths, for this process and for good.
///
/// # Errors
/// What chroot(2) reports; `PermissionDenied` when not root.
pub fn enter_root(folder: &Path) -> io::Result<()> {
    require_one_thread()?;
    rustix::process::chroot(folder)?;
    Ok(rustix::process::chdir("/")?)
}

/// Whether this process may call [`enter_root`]: it has `CAP_SYS_CHROOT` in effect.
#[must_use]
pub fn may_enter_root() -> bool {
    let sets = capabilities(None);
    sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_CHROOT))
}

/// Becomes `identity`, if one is given, without supplementary groups; keeps no capability but
/// those in `keep`, and can gain none by running a program (`no_new_privs`).
///
/// To be called while the process has one thread: credentials are a thread's own, and threads
/// started later inherit them.
///
/// # Errors
/// When the kernel refuses. The process may then have lost a part of its rights, and must end.
pub fn drop_to(identity: Option<&Identity>, keep: Keep) -> io::Result<()> {
    require_one_thread()?;
    let kept = keep.set() & capabilities(None)?.permitted;
    // Without these on a kernel there is nothing to clear. The set is of no use to a process
    // that may run nothing, and not every process may change it.
    let _ = clear_ambient_capability_set();
    if capabilities(None)?
        .effective
        .contains(CapabilitySet::SETPCAP)
    {
        empty_bounding_set(kept)?;
    }
    if let Some(identity) = identity {
        let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        set_keep_capabilities(true)?;
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        set_keep_capabilities(false)?;
    }
    let sets = CapabilitySets {
        effective: kept - READ_ALL,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)?;
    set_no_new_privs(true)?;
    Ok(())
}

/// Lets the programs that this process runs from now on keep the capabilities it has: a binary that
/// takes its place, and workers, which have to call [`drop_to`] themselves.
///
/// # Errors
/// What the kernel reports; it knows this since Linux 4.3.
pub fn pass_on_exec(heir: Heir) -> io::Result<()> {
    let mut sets = capabilities(None)?;
    let passed = match heir {
        Heir::Worker => sets.permitted - READ_ALL,
        Heir::Successor => sets.permitted,
    };
    sets.inheritable |= passed;
    set_capabilities(None, sets)?;
    for capability in passed.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Puts the capability to read every file out of effect, and out of what programs are given that
/// this process runs from now on: after [`pass_on_exec`] has given it to a successor, and in one.
///
/// # Errors
/// What the kernel reports.
pub fn withhold_reading() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    if sets.permitted.contains(READ_ALL) {
        sets.effective -= READ_ALL;
        // The ambient set follows.
        sets.inheritable -= READ_ALL;
        set_capabilities(None, sets)?;
    }
    Ok(())
}

/// Whether this process may read every file, if it takes that up.
#[must_use]
pub fn may_read_all() -> bool {
    capabilities(None).is_ok_and(|sets| sets.permitted.contains(READ_ALL))
}

/// Does something with the capability to read every file in effect, for this thread, where it is
/// there to be taken up.
pub fn while_reading<T>(read: impl FnOnce() -> T) -> T {
    with_reading(true, read)
}

/// Does something with it out of effect.
pub fn without_reading<T>(try_it: impl FnOnce() -> T) -> T {
    with_reading(false, try_it)
}

fn with_reading<T>(is_wanted: bool, action: impl FnOnce() -> T) -> T {
    let before = capabilities(None).ok();
    let before = before.filter(|sets| sets.permitted.contains(READ_ALL));
    let changed = before.map(|mut sets| {
        sets.effective.set(READ_ALL, is_wanted);
        set_capabilities(None, sets)
    });
    let done = action();
    // What was raised is lowered in any case that the kernel knows.
    if let (Some(before), Some(Ok(()))) = (before, changed) {
        let _ = set_capabilities(None, before);
    }
    done
}

/// Capabilities that the kernel does not know yet are no error.
fn empty_bounding_set(kept: CapabilitySet) -> io::Result<()> {
    for number in 0..CapabilitySet::all().bits().count_ones() {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Where /proc is not mounted, and under an emulator, whose threads are listed among ours, the
/// caller's word is all there is.
fn require_one_thread() -> io::Result<()> {
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(2..) if !is_emulated(Path::new("/proc/self")) => {
            Err(io::Error::other("the process has more than one thread"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether another program runs this one, as qemu-user does: it answers for the process with the
/// name of what it runs, and leaves the kernel's answer for a thread.
fn is_emulated(process: &Path) -> bool {
    let thread = format!("task/{}/exe", std::process::id());
    match (
        fs::read_link(process.join("exe")),
        fs::read_link(process.join(thread)),
    ) {
        (Ok(told), Ok(true_name)) => told != true_name,
        _ => false,
    }
}

/// The text of /etc/passwd and /etc/group; empty where there is none.
struct Accounts {
    users: String,
    groups: String,
}

impl Accounts {
    fn read() -> Self {
        Self {
            users: read_accounts("/etc/passwd"),
            groups: read_accounts("/etc/group"),
        }
    }

    fn identity(&self, user: &str, group: Option<&str>) -> Result<Identity, Unknown> {
        let unknown = |why: String| Unknown::User(why);
        let named = |fields: &[&str]| fields[0] == user;
        let (uid, gid) = match (id(user), entry(&self.users, &named)) {
            (_, Some(fields)) => ids(&fields)
                .map(|(uid, gid)| (uid, Some(gid)))
                .ok_or_else(|| format!("the entry of user {user} in /etc/passwd is damaged"))
                .map_err(unknown)?,
            (Some(uid), None) => {
                let numbered = |fields: &[&str]| fields.get(2) == Some(&user);
                let known = entry(&self.users, &numbered);
                (uid, known.and_then(|fields| ids(&fields)).map(|ids| ids.1))
            }
            (None, None) if user == USER_DEFAULT => (NOBODY_ID, Some(NOBODY_ID)),
            (None, None) => {
                return Err(unknown(format!("there is no user {user} in /etc/passwd")));
            }
        };
        self.identity_in(user, uid, gid, group)
    }

    fn identity_in(
        &self,
        user: &str,
        uid: u32,
        gid: Option<u32>,
        group: Option<&str>,
    ) -> Result<Identity, Unknown> {
        let gid = match group {
            Some(group) => Some(self.gid(group).map_err(Unknown::Group)?),
            None => gid,
        };
        let gid = gid.ok_or_else(|| {
            let why = format!("user {user} is not in /etc/passwd, so its `group` must be given");
            Unknown::User(why)
        })?;
        // All bits set means "as it is" to the kernel, which would leave root in place.
        let no_id = || format!("{} is no id of a user or group", u32::MAX);
        if uid == u32::MAX {
            return Err(Unknown::User(no_id()));
        }
        if gid == u32::MAX {
            return Err(Unknown::Group(no_id()));
        }
        Ok(Identity {
            name: user.to_owned(),
            uid,
            gid,
        })
    }

    fn gid(&self, group: &str) -> Result<u32, String> {
        let fields = entry(&self.groups, &|fields| fields[0] == group);
        let listed = fields.and_then(|fields| id(fields.get(2)?));
        listed
            .or_else(|| id(group))
            .ok_or_else(|| format!("there is no group {group} in /etc/group"))
    }
}

/// What is not UTF-8 or beyond the bound is not found.
fn read_accounts(path: &str) -> String {
    let mut bytes = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(ACCOUNTS_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// The fields of the first line that fits (passwd(5), group(5)).
fn entry<'a>(text: &'a str, fits: &dyn Fn(&[&str]) -> bool) -> Option<Vec<&'a str>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut entries = lines.map(|line| line.split(':').collect::<Vec<_>>());
    entries.find(|fields| fits(fields))
}

#[inline(never)]
fn id(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn ids(fields: &[&str]) -> Option<(u32, u32)> {
    Some((id(fields.get(2)?)?, id(fields.get(3)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    fn accounts() -> Accounts {
        Accounts {
            users:
                "root:x:0:0:root:/root:/bin/sh\n# weir:x:1:1::/:\nweir:x:990:991::/:/bin/false\n\
                    broken:x:12\n33:x:77:77::/:\nwww:x:34:35::/:\n"
                    .to_owned(),
            groups: "root:x:0:\nadm:x:4:weir\nhalf:x\n".to_owned(),
        }
    }

    #[test]
    fn a_user_is_found_with_its_group() {
        for (user, group, expected) in [
            ("weir", None, Ok((990, 991))),
            ("weir", Some("adm"), Ok((990, 4))),
            ("weir", Some("17"), Ok((990, 17))),
            ("34", None, Ok((34, 35))),
            ("33", None, Ok((77, 77))),
            ("4711", Some("adm"), Ok((4711, 4))),
            ("nobody", None, Ok((65_534, 65_534))),
            ("4711", None, Err("must be given")),
            ("broken", None, Err("damaged")),
            ("ghost", None, Err("no user ghost")),
            ("weir", Some("ghosts"), Err("no group ghosts")),
            ("weir", Some("half"), Err("no group half")),
            ("4294967295", Some("adm"), Err("no id")),
            ("weir", Some("4294967295"), Err("no id")),
        ] {
            let found = accounts().identity(user, group);
            match (found, expected) {
                (Ok(found), Ok(ids)) => assert_eq!((found.uid, found.gid), ids, "{user}"),
                (Err(unknown), Err(part)) => {
                    assert!(unknown.to_string().contains(part), "{unknown}");
                }
                (found, _) => panic!("{user} {group:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_process_with_several_threads_keeps_its_rights() {
        // The runner of the tests is a thread besides this one.
        let error = drop_to(None, Keep::Nothing).expect_err("not alone");
        assert!(error.to_string().contains("thread"), "{error}");
        let error = enter_root(Path::new("/")).expect_err("not alone");
        assert!(error.to_string().contains("thread"), "{error}");
    }

    #[test]
    fn an_emulator_is_told_by_the_name_that_it_does_not_hide() {
        let folder = std::env::temp_dir().join(format!("weir-emulated-{}", std::process::id()));
        let thread = folder.join(format!("task/{}", std::process::id()));
        fs::create_dir_all(&thread).expect("a folder");
        let link = |to: &str, at: PathBuf| symlink(to, at).expect("a link");
        link("/usr/sbin/weir", folder.join("exe"));
        assert!(!is_emulated(&folder), "nothing is known of the thread");
        link("/usr/bin/qemu-arm", thread.join("exe"));
        assert!(is_emulated(&folder));
        fs::remove_file(thread.join("exe")).expect("it was there");
        link("/usr/sbin/weir", thread.join("exe"));
        assert!(!is_emulated(&folder));
        fs::remove_dir_all(&folder).expect("it was there");
        assert!(!is_emulated(Path::new("/proc/self")));
    }
}
