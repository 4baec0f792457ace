//! The configuration file: TOML text to values with places. Entry point: [`read`].
//!
//! Invariants:
//! - All syntax errors and all unknown keys of a file are found in one run.
//! - An error says line and column and never quotes the line: a token may stand on it.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, PROBLEMS_SHOWN_MAX, Source, ValidKeys, nearest};
use super::filter::moved;
use super::layers::{Address, Layers, Schema};
use super::orgs::check_org_name;
use super::spec::{Given, Raw};

/// Bytes of a line up to which its columns are counted in characters, as editors do; beyond, in bytes. No line that a
/// person wrote is longer, and to count a line of a mebibyte for each of its keys would take minutes.
const COLUMN_BYTES_MAX: usize = 4_096;

/// Puts the values of a file into the layers. Returns whether the file was TOML at all: if not, what is missing in it says
/// nothing.
pub(super) fn read(
    path: &Path,
    text: &str,
    schema: &Schema,
    layers: &mut Layers,
    problems: &mut Vec<ConfigError>,
) -> bool {
    let places = Places::new(path, text);
    let (document, mut errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        errors.sort_by_key(|error| error.span().map(|span| span.start));
        problems.extend(errors.iter().map(|error| ConfigError::Syntax {
            at: places.source(error.span().unwrap_or(0..0)),
            message: error.message().to_owned(),
        }));
        return false;
    }
    let mut found = Vec::new();
    Walk { places, schema, layers, problems: &mut found }.level(None, document.get_ref());
    // The parser hands keys out in the order of the alphabet.
    found.sort_by_key(|problem| problem.place());
    problems.extend(found);
    true
}

/// Reads a single TOML value, as a variable may hold one. Places inside of it are left at the default.
pub(super) fn parse_value(text: &str) -> Option<Raw> {
    let value = DeValue::parse(text).ok()?;
    Some(convert(value.get_ref(), &|_| Source::Default))
}

/// Translates byte offsets to lines and columns. Every key asks, so an answer must not cost a walk over the file.
struct Places<'a> {
    path: &'a Path,
    text: &'a str,
    /// Where each line begins; never empty.
    line_starts: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(path: &'a Path, text: &'a str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(newline, _)| newline + 1);
        Self { path, text, line_starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    fn source(&self, span: Range<usize>) -> Source {
        let line = self.line_starts.partition_point(|start| *start <= span.start);
        let line_start = line.checked_sub(1).and_then(|index| self.line_starts.get(index)).copied().unwrap_or_default();
        let before = self.text.get(line_start..span.start).unwrap_or_default();
        let column_offset = if before.len() <= COLUMN_BYTES_MAX { before.chars().count() } else { before.len() };
        Source::File { path: self.path.to_owned(), line, column: column_offset + 1 }
    }
}

struct Walk<'a> {
    places: Places<'a>,
    schema: &'a Schema,
    layers: &'a mut Layers,
    problems: &'a mut Vec<ConfigError>,
}

impl Walk<'_> {
    /// The top level, or the table of one org.
    fn level(&mut self, org: Option<&str>, table: &DeTable<'_>) {
        for (name, value) in table {
            let (at, name) = (self.places.source(name.span()), name.get_ref().as_ref());
            if org.is_none() && name == "orgs" {
                self.orgs(at, value.get_ref());
            } else if self.schema.has_section(org.is_some(), name) {
                match value.get_ref() {
                    DeValue::Table(section) => self.section(org, name, section),
                    other => self.not_a_table(at, &Address::new(org, "", name), other),
                }
            } else {
                self.value(org, "", name, at, value);
            }
        }
    }

    fn section(&mut self, org: Option<&str>, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let at = self.places.source(name.span());
            self.value(org, section, name.get_ref().as_ref(), at, value);
        }
    }

    fn orgs(&mut self, at: Source, value: &DeValue<'_>) {
        let DeValue::Table(orgs) = value else {
            return self.not_a_table(at, &Address::new(None, "", "orgs"), value);
        };
        for (name, value) in orgs {
            let (at, name) = (self.places.source(name.span()), name.get_ref().as_ref());
            if let Err(reason) = check_org_name(name) {
                self.problems.push(ConfigError::Refused { at, key: "orgs".to_owned(), reason });
                continue;
            }
            match value.get_ref() {
                DeValue::Table(table) => {
                    self.layers.declare_org(name, &at);
                    self.level(Some(name), table);
                }
                other => self.not_a_table(at, &Address::new(None, "orgs", name), other),
            }
        }
    }

    fn value(&mut self, org: Option<&str>, section: &str, name: &str, at: Source, value: &Spanned<DeValue<'_>>) {
        if !self.schema.has(org.is_some(), section, name) {
            return self.unknown(org, section, name, at);
        }
        let raw = convert(value.get_ref(), &|span| self.places.source(span));
        if let Err(problem) = self.layers.put(Address::new(org, section, name), Given { raw, source: at }) {
            self.problems.push(problem);
        }
    }

    fn not_a_table(&mut self, at: Source, address: &Address, value: &DeValue<'_>) {
        let got = convert(value, &|_| Source::Default).shown();
        let (key, expected) = (address.to_string(), format!("a table, [{address}]"));
        // What stands where a table should may be anything, also a token.
        let got = if matches!(value, DeValue::String(_)) { "a text".to_owned() } else { got };
        self.problems.push(ConfigError::Value { at, key, expected, got });
    }

    fn unknown(&mut self, org: Option<&str>, section: &str, name: &str, at: Source) {
        let in_org = org.is_some();
        // What is not printed need not be helped with: a file of a mebibyte of other keys must not take minutes.
        if self.problems.len() >= PROBLEMS_SHOWN_MAX {
            let (key, valid) = (name.to_owned(), Box::default());
            return self.problems.push(ConfigError::UnknownKey { at, key, suggestion: None, valid });
        }
        if let Some(new) = moved(section, name) {
            let new = org.map_or_else(|| new.to_owned(), |org| format!("orgs.{org}.{new}"));
            let (key, reason) = (Address::new(org, section, name).to_string(), format!("is {new} now: rename it"));
            return self.problems.push(ConfigError::Refused { at, key, reason });
        }
        let keys = self.schema.names(in_org, section);
        let suggestion = nearest(name, keys.iter().map(String::as_str)).or_else(|| self.elsewhere(in_org, name));
        let table = match (org, section) {
            (None, section) => section.to_owned(),
            (Some(org), "") => format!("orgs.{org}"),
            (Some(org), section) => format!("orgs.{org}.{section}"),
        };
        let valid = Box::new(ValidKeys { table, keys });
        self.problems.push(ConfigError::UnknownKey { at, key: name.to_owned(), suggestion, valid });
    }

    /// The same key in another table: people forget the table's header more often than the key's spelling.
    fn elsewhere(&self, in_org: bool, name: &str) -> Option<String> {
        let same_level = self.schema.level(in_org).find(|known| known.key == name).map(|known| known.path());
        same_level.or_else(|| {
            let known = self.schema.level(!in_org).find(|known| known.key == name)?;
            Some(if in_org {
                format!("{} outside of [orgs]", known.path())
            } else {
                format!("orgs.<name>.{}", known.path())
            })
        })
    }
}

/// TOML's value in our terms. Recursion is bounded by the parser's own limit on nesting (80).
fn convert(value: &DeValue<'_>, place: &dyn Fn(Range<usize>) -> Source) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.as_ref().to_owned().into()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("a number beyond 64 bits"), Raw::Integer),
        DeValue::Float(number) => number.as_str().parse().map_or(Raw::Other("no number"), Raw::Float),
        DeValue::Boolean(value) => Raw::Bool(*value),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| convert(item.get_ref(), place)).collect()),
        DeValue::Table(table) => Raw::Table(
            table
                .iter()
                .map(|(name, value)| {
                    let given = Given { raw: convert(value.get_ref(), place), source: place(name.span()) };
                    (name.get_ref().as_ref().to_owned(), given)
                })
                .collect(),
        ),
    }
}

/// For messages about a file that is no text: where the first byte that is not UTF-8 stands.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| format!("byte {} is not UTF-8", error.utf8_error().valid_up_to() + 1))
}
