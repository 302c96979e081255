//! The page: one file with all that it needs in it, and for who runs no scripts a table of how
//! things were when it was asked for.

use crate::admin::answer::{Flow, PART_BYTES, Progress};
use crate::admin::observed::{Observed, service_word};
use crate::admin::outline::{BackendOutline, UpstreamOutline};
use crate::admin::view::View;
use crate::board::{BackendCell, BackendColumn};
use crate::core::text;

const FILE: &str = include_str!("page.html");
/// Where the table goes.
const MARK: &str = "<!--rows-->";

/// What the page may do: nothing but what is in it, which is named by its hashes, and to ask where
/// it came from (Content Security Policy Level 3, section 6.7.3). tests/page.rs computes them.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
     style-src 'sha256-kHntopblDFNULj2D9o4FSwYL7ryqWiN7BxkiRBCaUkE='; \
     script-src 'sha256-Tj3f7VSxUFXvaEzfmhRKwmidarAu/YeJywHi7ptOx5M='; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     img-src data:";

/// The page that is being told.
#[derive(Debug)]
pub(crate) struct Page {
    at: Step,
    /// The number of the last column that was found: the next is seldom far from it.
    column: usize,
    /// Whether the caller may see how things are.
    shows_rows: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Before,
    /// An upstream, and the backend in it.
    Row(usize, usize),
    After,
}

impl Page {
    pub(crate) fn new(shows_rows: bool) -> Self {
        Self {
            at: Step::Before,
            column: 0,
            shows_rows,
        }
    }
}

impl Flow for Page {
    fn go_on(&mut self, view: &View<'_>, out: &mut Vec<u8>) -> Progress {
        let (before, after) = FILE.split_once(MARK).unwrap_or((FILE, ""));
        while out.len() < PART_BYTES {
            self.at = match self.at {
                Step::Before => {
                    out.extend_from_slice(before.as_bytes());
                    if self.shows_rows {
                        out.extend_from_slice(HEAD);
                        Step::Row(0, 0)
                    } else {
                        Step::After
                    }
                }
                Step::Row(upstream, at) => match self.next_row(view, (upstream, at), out) {
                    Some(next) => next,
                    None => {
                        out.extend_from_slice(TAIL);
                        Step::After
                    }
                },
                Step::After => {
                    out.extend_from_slice(after.as_bytes());
                    return Progress::Done;
                }
            };
        }
        Progress::More
    }
}

const HEAD: &[u8] = b"<table><thead><tr><th scope=\"col\">Upstream<th scope=\"col\">Backend\
    <th scope=\"col\">Observed<th scope=\"col\">By hand<th scope=\"col\">Weight\
    <th scope=\"col\">Now<th scope=\"col\">Picks<th scope=\"col\">Last reason</thead><tbody>";
const TAIL: &[u8] = b"</tbody></table>";

impl Page {
    fn next_row(
        &mut self,
        view: &View<'_>,
        (upstream, at): (usize, usize),
        out: &mut Vec<u8>,
    ) -> Option<Step> {
        let outline = view.outline.upstreams.get(upstream)?;
        let Some(backend) = outline.backends.get(at) else {
            return Some(Step::Row(upstream + 1, 0));
        };
        if let Some(column) = view.board.find_next(&backend.column, &mut self.column) {
            row(view, (outline, backend, column), out);
        }
        Some(Step::Row(upstream, at + 1))
    }
}

fn row(
    view: &View<'_>,
    (upstream, outline, column): (&UpstreamOutline, &BackendOutline, BackendColumn),
    out: &mut Vec<u8>,
) {
    let observed = Observed::of(view, column);
    let number = |cell| view.board.total(column, cell).to_string();
    out.extend_from_slice(b"<tr>");
    for cell in [
        &upstream.name,
        &outline.name,
        observed.condition.word(),
        service_word(observed.service),
        &observed.weight_now(outline).to_string(),
        &number(BackendCell::Active),
        &number(BackendCell::Picks),
        observed
            .reason_of(outline, upstream.is_checked)
            .unwrap_or_default(),
    ] {
        out.extend_from_slice(b"<td>");
        push_escaped(out, cell);
    }
    out.extend_from_slice(b"</tr>\n");
}

fn push_escaped(out: &mut Vec<u8>, value: &str) {
    for letter in value.chars() {
        match letter {
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '&' => out.extend_from_slice(b"&amp;"),
            '"' => out.extend_from_slice(b"&quot;"),
            '\'' => out.extend_from_slice(b"&#39;"),
            other => text::push(out, format_args!("{other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_place_for_the_table_and_is_not_too_large() {
        assert_eq!(FILE.matches(MARK).count(), 1);
        assert!(FILE.len() <= 40_000, "{}", FILE.len());
        // Nothing from elsewhere, and nothing that makes markup of names.
        for word in ["src=", "@import", "innerHTML", "style=\"", "onclick=\""] {
            assert!(!FILE.contains(word), "{word}");
        }
    }

    #[test]
    fn what_others_have_named_stays_text() {
        let mut out = Vec::new();
        push_escaped(&mut out, "<b a='\"&");
        assert_eq!(out, b"&lt;b a=&#39;&quot;&amp;");
    }
}
