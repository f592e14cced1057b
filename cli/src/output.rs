//! What commands print: aligned tables for people, JSON or YAML for machines, colours where they are welcome.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::{Context as _, Outcome};

/// `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    // No doc comments: they would turn every --help into its long form.
    #[default]
    Table,
    Json,
    Yaml,
}

impl Output {
    /// Prints `value` for machines, or what `table` makes of it for people.
    pub fn print<T: Serialize>(self, value: &T, table: impl FnOnce(&T) -> String) -> Outcome {
        let text = match self {
            Self::Table => table(value),
            Self::Json => serde_json::to_string_pretty(value).context("failed to write JSON")? + "\n",
            Self::Yaml => serde_saphyr::to_string(value).context("failed to write YAML")?,
        };
        write_stdout(&text);
        Ok(())
    }
}

/// Writes to standard output. A reader that went away (`| head`) is not an error.
pub fn write_stdout(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// The colours that we use; text as it is where colours are not welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    enabled: bool,
}

impl Style {
    /// For standard output: on a terminal, unless `NO_COLOR` is set (no-color.org) or the terminal is dumb.
    pub fn stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { enabled: io::stdout().is_terminal() && !unwanted && !dumb }
    }

    /// Without colours.
    #[cfg(test)]
    pub const fn plain() -> Self {
        Self { enabled: false }
    }

    fn wrap<'a>(self, code: &str, text: &'a str) -> Cow<'a, str> {
        if self.enabled { Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m")) } else { Cow::Borrowed(text) }
    }

    /// It went well.
    pub fn good(self, text: &str) -> Cow<'_, str> {
        self.wrap("32", text)
    }

    /// It went wrong.
    pub fn bad(self, text: &str) -> Cow<'_, str> {
        self.wrap("31", text)
    }

    /// Worth a look.
    pub fn warn(self, text: &str) -> Cow<'_, str> {
        self.wrap("33", text)
    }

    /// Headings and names.
    pub fn strong(self, text: &str) -> Cow<'_, str> {
        self.wrap("1", text)
    }

    /// Of less importance.
    pub fn faint(self, text: &str) -> Cow<'_, str> {
        self.wrap("2", text)
    }
}

/// Columns, aligned to the widest cell. Cells hold no control characters of outside origin: see [`plain_text`].
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Table {
    /// With a row of headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()], indent: 0 }
    }

    /// Without headings, indented by so many spaces.
    pub const fn bare(indent: usize) -> Self {
        Self { rows: Vec::new(), indent }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The text, a newline after each row, no blanks at line ends.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| visible(cell)).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell}{}", " ".repeat(width.saturating_sub(visible(cell)) + 2));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Characters that take room: colour sequences take none.
fn visible(text: &str) -> usize {
    let mut count = 0;
    let mut in_sequence = false;
    for character in text.chars() {
        match character {
            '\x1b' => in_sequence = true,
            'm' if in_sequence => in_sequence = false,
            _ if in_sequence => {}
            _ => count += 1,
        }
    }
    count
}

/// Text of outside origin (event ids, types) made harmless for a terminal, and cut to `most` characters.
pub fn plain_text(text: &str, most: usize) -> String {
    let mut plain: String =
        text.chars().take(most).map(|c| if c.is_control() || is_bidi(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        plain.pop();
        plain.push('…');
    }
    plain
}

/// Marks that reorder what follows them on a terminal.
const fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A duration as people say it: `850 µs`, `12 ms`, `1.3 s`, `4 min`, `2 h`, `3 d`.
pub fn span(duration: Duration) -> String {
    let micros = duration.as_micros();
    let seconds = duration.as_secs();
    match seconds {
        0 if micros < 1_000 => format!("{micros} µs"),
        0 => format!("{} ms", micros / 1_000),
        1..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A size as people say it, binary units.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = bytes;
    let mut rest = 0;
    while scaled >= 1024 && unit + 1 < UNITS.len() {
        rest = scaled % 1024;
        scaled /= 1024;
        unit += 1;
    }
    if unit > 0 && scaled < 10 {
        format!("{scaled}.{} {}", rest * 10 / 1024, UNITS[unit])
    } else {
        format!("{scaled} {}", UNITS[unit])
    }
}

/// A count with thousands separated.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_the_colours() {
        let style = Style { enabled: true };
        let mut table = Table::new(["NAME", "STATE"]);
        table.row([style.good("ok").into_owned(), "x".to_owned()]);
        table.row(["longer".to_owned(), String::new()]);
        assert_eq!(table.render(), "NAME    STATE\n\x1b[32mok\x1b[0m      x\nlonger\n");
    }

    #[test]
    fn outside_text_cannot_drive_the_terminal() {
        assert_eq!(plain_text("a\x1b[2Jb\u{202e}", 9), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(plain_text("abcdef", 4), "abc…");
        assert_eq!(plain_text("abcd", 4), "abcd");
    }

    #[test]
    fn numbers_as_people_say_them() {
        assert_eq!(span(Duration::from_micros(850)), "850 µs");
        assert_eq!(span(Duration::from_millis(1300)), "1.3 s");
        assert_eq!(span(Duration::from_hours(60)), "2 d");
        assert_eq!((size(512), size(1536), size(20 << 20)), ("512 B".into(), "1.5 KiB".into(), "20 MiB".into()));
        assert_eq!((count(7), count(1_234_567)), ("7".to_owned(), "1,234,567".to_owned()));
    }
}
