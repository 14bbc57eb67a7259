//! `prettyprint-<macro>`: macro text, re-indented so that it still means the same.

use super::parse::{Piece, pieces};

/// One call a line, arguments with calls in them indented below it. Every line ends with a backslash, so that neither
/// the line ends nor the indentation belong to the text.
pub fn print(source: &str) -> String {
    let mut out = String::new();
    print_at(source, 0, &mut out);
    out
}

fn print_at(source: &str, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    for piece in pieces(source) {
        out.push_str(&indent);
        match piece {
            Piece::Text(text) => out.push_str(&protected(text)),
            Piece::Call { name, args } => {
                out.push_str(&format!("%{name}"));
                for arg in args {
                    print_arg(arg, depth, out);
                }
            }
        }
        out.push_str("\\\n");
    }
}

fn print_arg(arg: &str, depth: usize, out: &mut String) {
    let plain = pieces(arg)
        .iter()
        .all(|piece| matches!(piece, Piece::Text(_)));
    if plain {
        out.push_str(&format!("{{{}}}", arg.replace('\n', "\\n")));
    } else {
        out.push_str("{\\\n");
        print_at(arg, depth + 1, out);
        out.push_str(&format!("{}}}", "  ".repeat(depth)));
    }
}

/// A text that keeps its leading blanks behind a line end.
fn protected(text: &str) -> String {
    let text = text.replace('\n', "\\n");
    if text.starts_with(char::is_whitespace) {
        format!("\\{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::builtin;
    use super::super::parse::without_comments;
    use super::*;

    #[test]
    fn calls_are_indented_and_plain_arguments_stay_on_their_line() {
        assert_eq!(print("%let{a}{%b{}}x"), "%let{a}{\\\n  %b{}\\\n}\\\nx\\\n");
    }

    #[test]
    fn printing_again_changes_nothing() {
        for (name, text) in builtin::all() {
            let once = print(&without_comments(text));
            assert_eq!(print(&without_comments(&once)), once, "{name}");
        }
    }
}
