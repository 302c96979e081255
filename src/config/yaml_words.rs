//! What a YAML reader says of a file that it cannot read, in the words of who writes one, and at
//! the place of the mistake: the reader tells where it noticed, which may be the end of the file.

use super::problem::Position;
use crate::core::text::plural;

/// The reader's message and place, or better ones.
pub(super) fn in_words(text: &str, at: Position, message: String) -> (Position, String) {
    let told = [tab, quote, bracket, indentation, character];
    let told = told
        .iter()
        .find_map(|tell| tell(&Said::new(text, at, &message)));
    told.unwrap_or((at, message))
}

type Told = Option<(Position, String)>;

/// What was said, and of which text.
struct Said<'a> {
    text: &'a str,
    at: Position,
    message: &'a str,
    /// The line that it is about.
    line: &'a str,
    indent: usize,
}

impl<'a> Said<'a> {
    fn new(text: &'a str, at: Position, message: &'a str) -> Self {
        let line = text.lines().nth(at.line - 1).unwrap_or_default();
        Self {
            text,
            at,
            message,
            line,
            indent: indent_of(line),
        }
    }

    fn has(&self, words: &str) -> bool {
        self.message.contains(words)
    }

    /// Whether the reader stopped at the first word of the line.
    fn is_at_first_word(&self) -> bool {
        self.at.column == self.indent + 1
    }

    fn first_word(&self) -> Position {
        Position {
            line: self.at.line,
            column: self.indent + 1,
        }
    }

    /// The character that it is about.
    fn character(&self) -> Option<char> {
        self.line.chars().nth(self.at.column - 1)
    }

    /// Where what it was reading began: `while ... at line 1 column 9`.
    fn began(&self, what: &str) -> Option<Position> {
        let (_, place) = self.message.split_once(what)?;
        if place.is_empty() {
            return Some(Position::START);
        }
        let (line, column) = place.strip_prefix(" at line ")?.split_once(" column ")?;
        Some(Position {
            line: line.parse().ok()?,
            column: column.parse().ok()?,
        })
    }
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn tab(said: &Said<'_>) -> Told {
    let blanks = said.line.len() - said.line.trim_start().len();
    let column = said.line[..blanks].find('\t').map(|index| index + 1);
    // Behind the dash of a list, too.
    let column = column.or_else(|| (said.character() == Some('\t')).then_some(said.at.column))?;
    let line = said.at.line;
    let message = "a tab; YAML is indented with spaces alone".to_owned();
    Some((Position { line, column }, message))
}

fn quote(said: &Said<'_>) -> Told {
    if let Some(began) = said.began("while scanning a quoted scalar") {
        return Some((began, "the quote that begins here is not closed".to_owned()));
    }
    if said.has("while parsing a quoted scalar") && said.has("escape") {
        let message = "in double quotes `\\` begins an escape, such as \\n; write `\\\\`, or put \
                       the value in single quotes";
        return Some((said.at, message.to_owned()));
    }
    let (began, closed) = quote_over_lines(said.text, said.at.line)?;
    let message = format!("the quote that begins here is closed on line {closed} only");
    Some((began, message))
}

/// A quoted value that begins before that line and ends on it, and where it does.
fn quote_over_lines(text: &str, line: usize) -> Option<(Position, usize)> {
    let mut open: Option<(char, Position)> = None;
    let mut at = Position::START;
    let mut before = '\n';
    let mut is_comment = false;
    for c in text.chars() {
        match open {
            Some((quote, began)) if c == quote && before != '\\' => {
                if began.line < at.line && at.line == line {
                    return Some((began, at.line));
                }
                open = None;
            }
            None if is_comment => {}
            None if matches!(c, '"' | '\'') && matches!(before, ' ' | '\n' | '[' | '{' | ',') => {
                open = Some((c, at));
            }
            None => is_comment = c == '#' && matches!(before, ' ' | '\n'),
            Some(_) => {}
        }
        at.column += 1;
        if c == '\n' {
            at = Position {
                line: at.line + 1,
                column: 1,
            };
            is_comment = false;
        }
        before = c;
    }
    None
}

fn bracket(said: &Said<'_>) -> Told {
    let list = said.began("while parsing a flow sequence");
    let began = list.or_else(|| said.began("while parsing a flow mapping"))?;
    let (open, close) = if list.is_some() {
        ('[', ']')
    } else {
        ('{', '}')
    };
    let line = said.at.line;
    let before = said.line.chars().nth(said.at.column.saturating_sub(2));
    if said.character() == Some('{') && before == Some('$') {
        let message = "nothing is filled in for `${...}`: there are no variables";
        return Some((said.at, message.to_owned()));
    }
    if began.line == line {
        let message = format!("a comma or `{close}` is missing before this");
        return Some((said.at, message));
    }
    let message = format!("the `{open}` that begins here is not closed before line {line}");
    Some((began, message))
}

fn indentation(said: &Said<'_>) -> Told {
    if said.has("mapping values are not allowed") {
        return Some(odd_value(said));
    }
    let in_list = said.has("did not find expected '-' indicator");
    if !in_list && !said.has("did not find expected key") {
        return no_colon(said);
    }
    if !said.is_at_first_word() {
        let message = "this is behind the end of a value; quotes must go around the whole of it";
        return Some((said.at, message.to_owned()));
    }
    let levels = levels_above(said);
    let message = match (levels.contains(&said.indent), in_list) {
        (false, _) => format!(
            "this line is indented by {}, those above it by {}",
            spaces(said.indent),
            either(&levels)
        ),
        (true, true) => "an entry of the list above begins with `- `, and this line is indented \
                         as one"
            .to_owned(),
        (true, false) => "a `key: value` must stand here, as on the lines above that are indented \
                          as this one"
            .to_owned(),
    };
    Some((said.first_word(), message))
}

/// A key where none can be: on a line that is indented too far, behind a line that is no key, or
/// within a value.
fn odd_value(said: &Said<'_>) -> (Position, String) {
    let head: String = said.line.chars().take(said.at.column - 1).collect();
    if head.contains(": ") {
        let message = "a second `: ` on one line; a value that has one must be in quotes";
        return (said.at, message.to_owned());
    }
    let (line, above) = lines_above(said).next().unwrap_or((said.at.line, ""));
    if said.indent > indent_of(above) {
        let message = format!(
            "this line is indented by {}, and belongs to a line above it that has a value already",
            spaces(said.indent)
        );
        return (said.first_word(), message);
    }
    let column = indent_of(above) + 1;
    (Position { line, column }, NO_COLON.to_owned())
}

const NO_COLON: &str = "this line has no `: ` between a key and a value";

fn no_colon(said: &Said<'_>) -> Told {
    if !said.has("could not find expected ':'") {
        return None;
    }
    let began = said.began("while scanning a simple key");
    Some((began.unwrap_or(said.at), NO_COLON.to_owned()))
}

fn character(said: &Said<'_>) -> Told {
    let alias = said.began("while scanning an alias");
    let name = alias.or_else(|| said.began("while scanning an anchor"));
    if name.is_some() || said.has("unknown anchor") {
        let message = "`*` stands for what was named with `&` above, and nothing was; a value that \
                       begins with either must be in quotes";
        return Some((name.unwrap_or(said.at), message.to_owned()));
    }
    if said.has("expected a key of one word") {
        let message =
            "a key must be one word; a value that begins with `{` or `[` must be in quotes";
        return Some((said.at, message.to_owned()));
    }
    if said.has("expected a value without a tag") {
        let message = "`!` begins a tag, and there are none; a value that begins with it must be \
                       in quotes";
        return Some((said.at, message.to_owned()));
    }
    let first = said.character()?;
    said.has("cannot start any token").then(|| {
        let message = format!("a value that begins with `{first}` must be in quotes");
        (said.at, message)
    })
}

/// The lines above that say something, with their numbers and the nearest first.
fn lines_above<'a>(said: &Said<'a>) -> impl Iterator<Item = (usize, &'a str)> {
    let lines: Vec<&str> = said.text.lines().take(said.at.line - 1).collect();
    let is_told = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let numbered = (1..).zip(lines).collect::<Vec<_>>().into_iter().rev();
    numbered.filter(move |(_, line)| is_told(line))
}

/// By how many spaces the lines are indented that the next one could go on with.
fn levels_above(said: &Said<'_>) -> Vec<usize> {
    let mut levels: Vec<usize> = Vec::new();
    for (_, line) in lines_above(said) {
        let indent = indent_of(line);
        let rest = line[indent..].strip_prefix("- ");
        let within = rest.map(|rest| indent + 2 + indent_of(rest));
        for level in within.into_iter().chain([indent]) {
            if levels.last().is_none_or(|lowest| level < *lowest) {
                levels.push(level);
            }
        }
    }
    levels.reverse();
    levels
}

fn spaces(count: usize) -> String {
    format!("{count} space{}", plural(count == 1))
}

/// `0, 2 or 4`.
fn either(numbers: &[usize]) -> String {
    let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
