//! What is fixed when weir starts, or when it opens a listener: a reload does not change it, and
//! says so.

use crate::config::model::{Admin, Config, Keepalive, Privileges, StatePlace};

/// What such parts of a configuration say.
#[derive(Debug)]
pub(crate) struct FixedSettings {
    privileges: Privileges,
    admin: Admin,
    state: StatePlace,
    buffer_bytes: usize,
    buffer_memory_bytes: Option<usize>,
    listeners: Vec<FixedListener>,
}

/// What a listener was opened with.
#[derive(Clone, Debug)]
struct FixedListener {
    /// What it is known by.
    column: String,
    name: String,
    backlog: i32,
    keepalive: Option<Keepalive>,
}

impl FixedSettings {
    pub(crate) fn of(config: &Config) -> Self {
        let listeners = config.listeners.iter().map(|listener| FixedListener {
            column: listener.column_name(),
            name: listener.name.clone(),
            backlog: listener.backlog,
            keepalive: listener.keepalive,
        });
        Self {
            privileges: config.privileges.clone(),
            admin: config.admin.clone(),
            state: config.state.clone(),
            buffer_bytes: config.buffer_bytes,
            buffer_memory_bytes: config.buffer_memory_bytes,
            listeners: listeners.collect(),
        }
    }

    /// Whether who serves without a supervisor is inside of a root folder.
    pub(crate) fn has_root_folder(&self) -> bool {
        self.privileges.chroot.is_some()
    }

    /// What `wanted` has otherwise, a line each.
    pub(crate) fn differences(&self, wanted: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.privileges != wanted.privileges {
            let keys = "`user`, `group`, `chroot` and `sandbox`";
            lines.push(format!("{keys} count from the next start"));
        }
        if self.admin != wanted.admin {
            lines.push("`admin` counts from the next start".to_owned());
        }
        if self.state != wanted.state {
            lines.push("`state` counts from the next start".to_owned());
        }
        let buffers = |of: &Self| (of.buffer_bytes, of.buffer_memory_bytes);
        if buffers(self) != buffers(wanted) {
            lines.push("`buffers` counts from the next start".to_owned());
        }
        for wanted in &wanted.listeners {
            let own = self.opened(wanted);
            let differs = |own: &FixedListener| {
                (own.backlog, own.keepalive) != (wanted.backlog, wanted.keepalive)
            };
            if own.is_some_and(differs) {
                let name = &wanted.name;
                lines.push(format!(
                    "listener {name}: `backlog` and `keepalive` count from the next start, as its \
                     socket stays open"
                ));
            }
        }
        lines
    }

    /// Listeners were opened and closed as `wanted` has them; those that stayed are as they were.
    pub(crate) fn renew(&mut self, wanted: Self) {
        let listeners = wanted.listeners.into_iter();
        let listeners = listeners.map(|it| self.opened(&it).cloned().unwrap_or(it));
        self.listeners = listeners.collect();
    }

    fn opened(&self, wanted: &FixedListener) -> Option<&FixedListener> {
        self.listeners.iter().find(|it| it.column == wanted.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(text: &str) -> FixedSettings {
        let compiled = crate::config::compile("f", text, &mut |_| Ok(Vec::new()));
        FixedSettings::of(&compiled.expect("it is good").config)
    }

    #[test]
    fn what_stays_as_it_was_is_said_for_as_long_as_it_differs() {
        let before = "listen: \":1\"\nbackends: [a:1]\n";
        let mut own = fixed(before);
        let wanted = "listen: \":1\"\nbackends: [a:1]\nbacklog: 7\nuser: games\n\
                      buffers: {size: 32KiB}\n";
        for _ in 0..2 {
            let lines = own.differences(&fixed(wanted));
            assert_eq!(lines.len(), 3, "{lines:?}");
            own.renew(fixed(wanted));
        }
        assert_eq!(own.differences(&fixed(before)), [""; 0]);
    }

    #[test]
    fn a_listener_that_is_opened_has_what_is_wanted() {
        let mut own = fixed("listen: \":1\"\nbackends: [a:1]\n");
        let other = "listen: \":2\"\nbackends: [a:1]\nbacklog: 7\n";
        assert_eq!(own.differences(&fixed(other)), [""; 0]);
        own.renew(fixed(other));
        let again = "listen: \":2\"\nbackends: [a:1]\nbacklog: 8\n";
        assert_eq!(own.differences(&fixed(again)).len(), 1);
    }
}
