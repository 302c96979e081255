//! The certificates of the proxies, made once by openssl(1): nobody has to trust them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workload::Key;

/// The name that clients ask for.
pub const NAME: &str = "bench.test";
const DAYS: &str = "36500";

/// A folder with what was made so far.
#[derive(Clone, Debug)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Those in a folder, which is made where there is none.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn new(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.canonicalize()?,
        })
    }

    /// The file with certificate and key for [`NAME`].
    ///
    /// # Errors
    ///
    /// openssl(1) is missing or has failed.
    pub fn main(&self, key: Key) -> io::Result<PathBuf> {
        let name = match key {
            Key::Ecdsa => "ecdsa",
            Key::Rsa => "rsa",
        };
        self.made(&self.folder.join(format!("{name}.pem")), key, NAME)
    }

    /// A folder with so many files, each for a name of its own: see [`other_name`].
    ///
    /// # Errors
    ///
    /// openssl(1) is missing or has failed.
    pub fn others(&self, count: usize) -> io::Result<PathBuf> {
        let folder = self.folder.join(format!("others-{count}"));
        fs::create_dir_all(&folder)?;
        for name in (0..count).map(other_name) {
            self.made(&folder.join(format!("{name}.pem")), Key::Ecdsa, &name)?;
        }
        Ok(folder)
    }

    /// Makes a file, unless it is there. It gets its name when it is complete.
    fn made(&self, path: &Path, key: Key, name: &str) -> io::Result<PathBuf> {
        if !path.is_file() {
            let half = |what: &str| self.folder.join(format!("{what}.half"));
            let [key_file, certificate_file] = ["key", "certificate"].map(half);
            make(key, name, &key_file, &certificate_file)?;
            let both = [fs::read(&certificate_file)?, fs::read(&key_file)?].concat();
            fs::write(&certificate_file, both)?;
            fs::remove_file(&key_file)?;
            fs::rename(&certificate_file, path)?;
        }
        Ok(path.to_owned())
    }
}

/// The name for which a further certificate is.
#[must_use]
pub fn other_name(number: usize) -> String {
    format!("site-{number}.test")
}

fn make(key: Key, name: &str, key_file: &Path, certificate_file: &Path) -> io::Result<()> {
    let key: &[&str] = match key {
        Key::Ecdsa => &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        Key::Rsa => &["rsa:2048"],
    };
    let output = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", DAYS, "-newkey"])
        .args(key)
        .arg("-subj")
        .arg(format!("/CN={name}"))
        .arg("-addext")
        .arg(format!("subjectAltName=DNS:{name}"))
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(key_file)
        .arg("-out")
        .arg(certificate_file)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("openssl: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().last().unwrap_or("no words");
    Err(io::Error::other(format!("openssl: {line}")))
}
