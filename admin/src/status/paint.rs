//! Colours, used only when a person looks: names blue, good green, bad red.

use anstyle::{AnsiColor, Color, Style};

/// Colours switched on or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paint {
    /// Whether anything is coloured at all.
    pub on: bool,
}

impl Paint {
    /// A name of a host or resource.
    pub fn name(self, text: &str) -> String {
        self.colour(text, AnsiColor::Blue)
    }

    /// A heading.
    pub fn heading(self, text: &str) -> String {
        self.colour(text, AnsiColor::Yellow)
    }

    /// All is well.
    pub fn good(self, text: &str) -> String {
        self.colour(text, AnsiColor::Green)
    }

    /// All is not well.
    pub fn bad(self, text: &str) -> String {
        self.colour(text, AnsiColor::Red)
    }

    fn colour(self, text: &str, colour: AnsiColor) -> String {
        if !self.on {
            return text.to_owned();
        }
        let style = Style::new().fg_color(Some(Color::Ansi(colour)));
        format!("{}{text}{}", style.render(), style.render_reset())
    }
}
