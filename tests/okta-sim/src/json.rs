//! A small JSON writer: objects are rendered from compact structs at request time, without an intermediate tree.
//!
//! Entry points: [`Object`] and `array`. Invariant: the text made is always valid JSON.

use std::fmt::Write as _;

/// Room for a typical user or app user, to spare the first reallocations.
const OBJECT_BYTES_TYPICAL: usize = 512;

/// An object under construction.
pub(crate) struct Object(String);

impl Object {
    pub(crate) fn new() -> Self {
        let mut text = String::with_capacity(OBJECT_BYTES_TYPICAL);
        text.push('{');
        Self(text)
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        push_string(&mut self.0, key);
        self.0.push(':');
    }

    pub(crate) fn text(mut self, key: &str, value: &str) -> Self {
        self.key(key);
        push_string(&mut self.0, value);
        self
    }

    /// A string, or an explicit `null`.
    pub(crate) fn text_or_null(mut self, key: &str, value: Option<&str>) -> Self {
        self.key(key);
        match value {
            Some(text) => push_string(&mut self.0, text),
            None => self.0.push_str("null"),
        }
        self
    }

    pub(crate) fn number(mut self, key: &str, value: i64) -> Self {
        self.key(key);
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    pub(crate) fn boolean(mut self, key: &str, value: bool) -> Self {
        self.key(key);
        self.0.push_str(if value { "true" } else { "false" });
        self
    }

    /// A value that is JSON already.
    pub(crate) fn raw(mut self, key: &str, json: &str) -> Self {
        self.key(key);
        self.0.push_str(json);
        self
    }

    pub(crate) fn object(self, key: &str, value: Object) -> Self {
        let json = value.end();
        self.raw(key, &json)
    }

    /// `{"href": url}` under `key`.
    pub(crate) fn link(self, key: &str, href: &str) -> Self {
        self.object(key, Object::new().text("href", href))
    }

    pub(crate) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// An array of values that are JSON already.
pub(crate) fn array<Text: AsRef<str>>(items: impl IntoIterator<Item = Text>) -> String {
    let mut text = String::from("[");
    for item in items {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(item.as_ref());
    }
    text.push(']');
    text
}

/// An array of strings.
pub(crate) fn strings<Text: AsRef<str>>(items: impl IntoIterator<Item = Text>) -> String {
    array(items.into_iter().map(|item| quoted(item.as_ref())))
}

/// The text as a JSON string.
pub(crate) fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    push_string(&mut text, value);
    text
}

fn push_string(out: &mut String, value: &str) {
    out.push('"');
    for character in value.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let nasty = "a\"b\\c\n\r\t\u{1}é漢\u{1F600}</script>";
        let text = Object::new()
            .text(nasty, nasty)
            .text_or_null("null", None)
            .number("number", -7)
            .boolean("boolean", true)
            .link("self", "http://x/")
            .raw("list", &strings([nasty, ""]))
            .end();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value[nasty], nasty);
        assert!(value["null"].is_null());
        assert_eq!(value["number"], -7);
        assert_eq!(value["boolean"], true);
        assert_eq!(value["self"]["href"], "http://x/");
        assert_eq!(value["list"], serde_json::json!([nasty, ""]));
        assert_eq!(Object::new().end(), "{}");
        assert_eq!(array::<&str>([]), "[]");
    }
}
