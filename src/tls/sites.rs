//! Which certificates serve which name.
//!
//! A name is looked up as it is, then as `*.` and its parent: a wildcard stands for one label (RFC
//! 9525 section 6.3). Names that the same certificates serve are one site.

use std::collections::BTreeMap;

/// The sites of a listener, by name.
#[derive(Debug)]
pub struct SiteTable {
    /// Sorted by name.
    names: Vec<(Box<str>, u32)>,
    /// For each site, its certificates in order.
    sites: Vec<Vec<u32>>,
}

impl SiteTable {
    /// The sites of certificates with these names. Site 0 is that of the first certificate, for
    /// clients that name no site or one that is not there. Without certificates there is none.
    #[must_use]
    pub fn new<'a>(certificates: impl Iterator<Item = &'a [String]>) -> Self {
        let mut served: Vec<(Box<str>, u32)> = Vec::new();
        let mut certificates = (0..).zip(certificates).peekable();
        if certificates.peek().is_none() {
            let (names, sites) = (Vec::new(), Vec::new());
            return Self { names, sites };
        }
        for (certificate, names) in certificates {
            served.extend(names.iter().map(|name| (name.as_str().into(), certificate)));
        }
        served.sort();
        served.dedup();
        let mut table = Self {
            names: Vec::new(),
            sites: vec![vec![0]],
        };
        let mut known = BTreeMap::from([(vec![0], 0)]);
        for group in served.chunk_by(|one, other| one.0 == other.0) {
            let certificates: Vec<u32> =
                group.iter().map(|(_, certificate)| *certificate).collect();
            let next = known.len();
            let site = *known
                .entry(certificates)
                .or_insert_with_key(|certificates| {
                    table.sites.push(certificates.clone());
                    u32::try_from(next).unwrap_or(0)
                });
            table.names.push((group[0].0.clone(), site));
        }
        table
    }

    /// For each site, its certificates in order.
    #[must_use]
    pub fn sites(&self) -> &[Vec<u32>] {
        &self.sites
    }

    /// The site of a name, which is in lower case.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        if let Some(site) = self.exact("", name) {
            return Some(site);
        }
        let (_, parent) = name.split_once('.')?;
        self.exact("*.", parent)
    }

    /// All names, each with its site.
    pub fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.names
            .iter()
            .map(|(name, site)| (&**name, *site as usize))
    }

    /// The site of just that name, which may be that of a wildcard.
    #[must_use]
    pub fn of_name(&self, name: &str) -> Option<usize> {
        self.exact("", name)
    }

    fn exact(&self, before: &str, name: &str) -> Option<usize> {
        let wanted = before.bytes().chain(name.bytes());
        let at = self
            .names
            .binary_search_by(|(known, _)| known.bytes().cmp(wanted.clone()))
            .ok()?;
        Some(self.names[at].1 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(certificates: &[&[&str]]) -> SiteTable {
        let owned: Vec<Vec<String>> = certificates
            .iter()
            .map(|names| names.iter().map(|&name| name.to_owned()).collect())
            .collect();
        SiteTable::new(owned.iter().map(Vec::as_slice))
    }

    #[test]
    fn an_exact_name_wins_over_a_parent() {
        let table = table(&[&["*.a.example"], &["x.a.example"]]);
        let of = |name| table.find(name).map(|site| table.sites()[site].clone());
        assert_eq!(of("x.a.example"), Some(vec![1]));
        assert_eq!(of("y.a.example"), Some(vec![0]));
        assert_eq!(of("a.example"), None);
        assert_eq!(of("z.y.a.example"), None, "a wildcard is one label");
        assert_eq!(of("*.a.example"), Some(vec![0]));
        assert_eq!(of(""), None);
    }

    #[test]
    fn names_of_the_same_certificates_are_one_site() {
        let table = table(&[&["a", "b"], &["b", "a"], &["c", "a"]]);
        assert_eq!(
            table.find("a").map(|site| &table.sites()[site]),
            Some(&vec![0, 1, 2])
        );
        assert_eq!(
            table.find("b").map(|site| &table.sites()[site]),
            Some(&vec![0, 1])
        );
        assert_eq!(
            table.find("c").map(|site| &table.sites()[site]),
            Some(&vec![2])
        );
        assert_eq!(table.sites()[0], [0]);
    }
}
