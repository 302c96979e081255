//! What conf/reference.yaml says of each key, for `weir --help KEY` and the man page. The file is
//! the one place where keys are explained: a test holds it to the tables of keys, and its values to
//! the defaults.

use std::fmt;

use super::suggest;

const TEXT: &str = include_str!("../../conf/reference.yaml");
/// What a comment that goes on from the line before is indented by, at the least.
const COMMENT_COLUMN: usize = 20;
/// Where keys are names that the file chooses, what stands for one.
const NAMED: [(&str, &str); 2] = [("upstreams", "NAME"), ("error_pages", "STATUS")];

/// A key, as it is explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The keys that it stands under and its own, with dots between them: of a list `listeners[]`,
    /// of what the file names `NAME`.
    pub path: String,
    /// The default or an example; empty for a mapping or a list.
    pub value: &'static str,
    /// What is said of it.
    pub about: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}\n    {}", self.path, self.value, self.about)
    }
}

impl Entry {
    /// Whether it is the key of that name or path, or stands under it.
    fn is_of(&self, asked: &str) -> bool {
        let bare = self.path.replace("[]", "");
        let wanted = format!(".{}.", asked.replace("[]", ""));
        format!(".{bare}.").contains(&wanted)
    }
}

/// Every key that something is said of, in the order of the file.
#[must_use]
pub fn entries() -> Vec<Entry> {
    let mut reader = Reader::default();
    let lines = TEXT.lines();
    let lines = lines.skip_while(|line| line.is_empty() || line.starts_with('#'));
    // The list of fields at the end is of no key.
    for line in lines.take_while(|line| !line.starts_with('#')) {
        reader.read(line);
    }
    let mut entries = reader.entries;
    entries.retain(|entry| !entry.about.is_empty());
    entries
}

#[derive(Default)]
struct Reader {
    entries: Vec<Entry>,
    /// The keys that the line is under, with their indentation.
    above: Vec<(usize, String)>,
}

impl Reader {
    fn read(&mut self, line: &'static str) {
        let indent = line.len() - line.trim_start().len();
        let rest = line.trim_start();
        let (rest, indent, is_item) = match (rest.strip_prefix("- "), rest.strip_prefix("# ")) {
            (Some(item), _) => (item, indent + 2, true),
            (None, Some(comment)) if indent >= COMMENT_COLUMN => return self.add(comment),
            // A key that stands beside others that say the same.
            (None, Some(key)) => (key, indent, false),
            (None, None) => (rest, indent, false),
        };
        let (words, about) = rest.split_once(" # ").unwrap_or((rest, ""));
        self.above.retain(|(above, _)| *above < indent);
        if is_item {
            self.enter_list();
        }
        let Some((key, value)) = key_and_value(words.trim_end()) else {
            if !about.is_empty() {
                self.add(&format!("; {}: {about}", words.trim_end()));
            }
            return;
        };
        let under = self.above.last().map_or("", |(_, key)| key.as_str());
        let named = NAMED.iter().find(|(key, _)| *key == under);
        let key = named.map_or(key, |(_, name)| name);
        self.above.push((indent, key.to_owned()));
        let keys: Vec<&str> = self.above.iter().map(|(_, key)| key.as_str()).collect();
        self.entries.push(Entry {
            path: keys.join("."),
            value,
            about: about.to_owned(),
        });
    }

    /// Goes on with what is said of the last key.
    fn add(&mut self, comment: &str) {
        if let Some(entry) = self.entries.last_mut() {
            let blank = if comment.starts_with(';') { "" } else { " " };
            entry.about = format!("{}{blank}{}", entry.about, comment.trim_start());
        }
    }

    fn enter_list(&mut self) {
        if let Some((_, key)) = self.above.last_mut()
            && !key.ends_with("[]")
        {
            key.push_str("[]");
        }
    }
}

fn key_and_value(words: &'static str) -> Option<(&'static str, &'static str)> {
    let (key, value) = words
        .split_once(": ")
        .or_else(|| words.strip_suffix(':').map(|key| (key, "")))?;
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    key.chars().all(is_key).then_some((key, value))
}

/// What is said of a key, by its name or by part of its path, such as `health_check.interval`, and
/// of all that stand under it.
///
/// # Errors
/// That there is none, with the nearest that there is.
pub(crate) fn about(asked: &str) -> Result<String, String> {
    let entries = entries();
    let mut found: Vec<&Entry> = entries.iter().filter(|entry| entry.is_of(asked)).collect();
    if found.is_empty() {
        // Some are explained with the key that they stand under.
        let told = format!("{}:", asked.rsplit('.').next().unwrap_or(asked));
        let tells = |entry: &&Entry| entry.about.contains(&told) || entry.value.contains(&told);
        found = entries.iter().filter(tells).collect();
    }
    if found.is_empty() {
        let names = entries
            .iter()
            .filter_map(|entry| entry.path.rsplit('.').next());
        let near = suggest::hint(asked, names);
        return Err(format!("there is no key `{asked}`{near}"));
    }
    Ok(found.into_iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::super::key::TABLES;
    use super::*;

    #[test]
    fn every_key_of_every_table_has_an_entry() {
        let mut keys = 0;
        for table in TABLES {
            for name in table.names() {
                let told = about(name).unwrap_or_else(|error| panic!("{error}"));
                assert!(told.contains(name), "{name}: {told}");
                keys += 1;
            }
        }
        assert!(keys > 120, "only {keys}");
    }

    #[test]
    fn an_entry_has_its_path_its_default_and_all_that_is_said_of_it() {
        let cases = [
            (
                "connect",
                "timeouts.connect: 5s\n    one connection attempt to a backend\n",
            ),
            (
                "health_check.fast_interval",
                "upstreams.NAME.health_check.fast_interval: 1s\n    while a change is under way; \
                 not above the interval\n",
            ),
            (
                "listeners.routes.strip_prefix",
                "listeners[].routes[].strip_prefix: false\n    whether the prefix is cut off \
                 before forwarding\n",
            ),
            (
                "read",
                "admin.read: auto\n    who may look over TCP: open, token, or auto: open on \
                 loopback only\n",
            ),
            (
                "request_id",
                "listeners[].request_id: off\n    the field that tells backends a request's id, \
                 such as X-Request-ID; that of trusted_proxies is taken, any other replaced\n",
            ),
            ("body_", ""),
        ];
        for (asked, told) in cases {
            assert_eq!(about(asked).unwrap_or_default(), told, "{asked}");
        }
        let sticky = about("sticky").expect("a key");
        assert!(sticky.contains("sticky.wait: 1s\n"), "{sticky}");
        let facility = about("facility").expect("explained with its mapping");
        assert!(facility.starts_with("access_log: off\n"), "{facility}");
        let unknown = about("wieght").expect_err("no key");
        assert_eq!(unknown, "there is no key `wieght`; did you mean `weight`?");
    }
}
