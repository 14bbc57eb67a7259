//! From macro text to a tree of texts and calls.
//!
//! ```text
//! text   = { verbatim | escape | call }
//! call   = "%" name "{" arg "}" { "{" arg "}" }        name: no backslash, blank, (){}[]
//! escape = "\" character                               \n \t \r \f \b \a \e, else the character itself
//! ```
//!
//! An argument is kept as it was written, because some functions want it so; it is parsed when it is first evaluated.
//! Whatever is not a call (unbalanced braces, `%` before a blank) is verbatim text, never an error.
//!
//! Manual: "The Macro Processor" (syntax).

use std::cell::OnceCell;

use super::primitive::Target;

/// A stretch of macro text, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Verbatim text, escapes still in it.
    Text(&'t str),
    /// A call with its raw arguments; at least one.
    Call {
        /// The name between `%` and the first brace; may be empty.
        name: &'t str,
        /// The texts between the braces.
        args: Vec<&'t str>,
    },
}

/// Splits a text without comments into texts and calls.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let bytes = text.as_bytes();
    let (mut from, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'%' => match call_at(text, at) {
                Some((call, end)) => {
                    push_text(&mut pieces, &text[from..at]);
                    pieces.push(call);
                    (from, at) = (end, end);
                }
                None => at += 1,
            },
            _ => at += 1,
        }
    }
    push_text(&mut pieces, &text[from..]);
    pieces
}

fn push_text<'t>(pieces: &mut Vec<Piece<'t>>, text: &'t str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
}

/// The call whose `%` stands at `at`, and where it ends.
fn call_at(text: &str, at: usize) -> Option<(Piece<'_>, usize)> {
    let rest = &text[at + 1..];
    let len = rest.find(ends_name)?;
    let mut end = at + 1 + len;
    let mut args = Vec::new();
    while let Some(close) = closing_brace(text, end) {
        args.push(&text[end + 1..close]);
        end = close + 1;
    }
    let name = &rest[..len];
    (!args.is_empty()).then_some((Piece::Call { name, args }, end))
}

fn ends_name(sign: char) -> bool {
    sign.is_whitespace() || matches!(sign, '\\' | '{' | '}' | '(' | ')' | '[' | ']')
}

/// The brace that closes the one at `open`, if there is one at `open` at all.
fn closing_brace(text: &str, open: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.get(open) != Some(&b'{') {
        return None;
    }
    let (mut depth, mut at) = (0_u32, open);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Removes comments: `#` and `// ` to the end of the line, `/* … */`, and backslash-newline with the blanks behind it.
pub fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '#', '/']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let skip = comment_len(rest);
        if skip == 0 {
            // A backslash protects the character behind it from being the beginning of a comment.
            let keep = if rest.starts_with('\\') { 2 } else { 1 };
            let keep = rest
                .char_indices()
                .nth(keep)
                .map_or(rest.len(), |(at, _)| at);
            out.push_str(&rest[..keep]);
            rest = &rest[keep..];
        } else {
            rest = &rest[skip..];
        }
    }
    out.push_str(rest);
    out
}

/// How many bytes at the beginning are a comment.
fn comment_len(text: &str) -> usize {
    let line = text.find('\n').unwrap_or(text.len());
    if let Some(next) = text.strip_prefix("\\\n") {
        return text.len() - next.trim_start().len();
    }
    if text.starts_with('#') || text.starts_with("// ") || text.starts_with("//\t") {
        return line;
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(0, |end| end + 2);
    }
    0
}

/// Parsed macro text.
#[derive(Debug, Default)]
pub struct Template {
    /// Texts and calls in order.
    pub nodes: Vec<Node>,
}

/// A piece of parsed macro text.
#[derive(Debug)]
pub enum Node {
    /// Text that is copied, escapes already replaced.
    Text {
        /// What is copied.
        text: String,
        /// Letters behind a backslash that have no meaning yet; each is worth a warning.
        reserved: String,
    },
    /// A call.
    Call(Call),
}

/// A call of a macro or function.
#[derive(Debug)]
pub struct Call {
    /// The name as written.
    pub name: String,
    /// At least one argument.
    pub args: Vec<Arg>,
    /// What the name stands for; found at the first call.
    pub(super) target: OnceCell<Target>,
}

/// One argument, parsed when first evaluated.
#[derive(Debug)]
pub struct Arg {
    /// The text as written.
    pub raw: String,
    body: OnceCell<Template>,
}

impl Template {
    /// Parses a text without comments.
    pub fn parse(text: &str) -> Template {
        let nodes = pieces(text).into_iter().map(|piece| match piece {
            Piece::Text(raw) => {
                let (text, reserved) = without_escapes(raw);
                Node::Text { text, reserved }
            }
            Piece::Call { name, args } => Node::Call(Call {
                name: name.to_owned(),
                args: args.into_iter().map(Arg::new).collect(),
                target: OnceCell::new(),
            }),
        });
        Template {
            nodes: nodes.collect(),
        }
    }

    /// Removes comments, then parses.
    pub fn from_source(text: &str) -> Template {
        Template::parse(&without_comments(text))
    }
}

impl Call {
    /// The name of the function, without the prefix that asks for the built-in one.
    pub fn plain_name(&self) -> &str {
        let name = self.name.as_str();
        name.strip_prefix("primitive-")
            .or_else(|| name.strip_prefix("primitive_"))
            .unwrap_or(name)
    }
}

impl Arg {
    fn new(raw: &str) -> Arg {
        Arg {
            raw: raw.to_owned(),
            body: OnceCell::new(),
        }
    }

    /// The argument as macro text.
    pub fn body(&self) -> &Template {
        self.body.get_or_init(|| Template::parse(&self.raw))
    }
}

/// Replaces the escapes of a raw text; also gives the letters behind a backslash that have no meaning.
pub fn without_escapes(raw: &str) -> (String, String) {
    let (mut text, mut reserved) = (String::with_capacity(raw.len()), String::new());
    let mut signs = raw.chars();
    while let Some(sign) = signs.next() {
        if sign != '\\' {
            text.push(sign);
            continue;
        }
        match signs.next() {
            Some(letter) => text.push(escaped(letter).unwrap_or_else(|| {
                if letter.is_ascii_alphabetic() {
                    reserved.push(letter);
                }
                letter
            })),
            None => text.push('\\'),
        }
    }
    (text, reserved)
}

/// The control character that a letter behind a backslash stands for.
fn escaped(letter: char) -> Option<char> {
    Some(match letter {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'f' => '\x0c',
        'b' => '\x08',
        'a' => '\x07',
        'e' => '\x1b',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown: Vec<String> = pieces(text)
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => format!("<{text}>"),
                Piece::Call { name, args } => format!("{name}({})", args.join("|")),
            })
            .collect();
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn calls_are_found_between_texts() {
        check("a %if{%{x}}{y}{} b", "<a > if(%{x}|y|) < b>");
        check("%>={1}{2}%%{7}{3}", ">=(1|2) %(7|3)");
        check("%{x}{++}", "(x|++)");
    }

    #[test]
    fn braces_inside_arguments_balance_unless_protected() {
        check(r"%a{x{y}z}{\}}", r"a(x{y}z|\})");
        check("%a{x", "<%a{x>");
        check("%a{x}{y", "a(x) <{y>");
    }

    #[test]
    fn what_is_no_call_stays_text() {
        check("100% of %x (y)", "<100% of %x (y)>");
        check(r"\%if{x}", r"<\%if{x}>");
        check("%é{x}ü", "é(x) <ü>");
    }

    #[test]
    fn comments_vanish_and_urls_stay() {
        assert_eq!(without_comments("a # b\nc // d\ne"), "a \nc \ne");
        assert_eq!(without_comments("http://x /* y\n*/z"), "http://x z");
        assert_eq!(without_comments("a\\\n   \n b\\# c"), "ab\\# c");
        assert_eq!(without_comments("/* open"), "/* open");
    }

    #[test]
    fn escapes_become_characters() {
        let parsed = Template::parse(r"a\tb\%\q\");
        let [Node::Text { text, reserved }] = &parsed.nodes[..] else {
            unreachable!("one text");
        };
        assert_eq!((text.as_str(), reserved.as_str()), ("a\tb%q\\", "q"));
    }
}
