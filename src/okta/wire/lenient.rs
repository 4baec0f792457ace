//! Lenient JSON: fields of any type, objects with unknown, doubled and missing keys, and the items of a list one by one.
//!
//! Entry points: [`split_array`], [`Field`], the macro `lenient_object!`.
//!
//! Invariants:
//! - No well-formed JSON value in any place makes a decoder fail: what has the wrong type counts as absent.
//! - Nothing recurses with the input: a value that is not wanted is skipped iteratively, however deep it is.
//! - Strings are borrowed from the body where they hold no escapes.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Most items of one page that are looked at. Okta's largest page has 10,000 (groups, facts 1.1).
pub const PAGE_ITEMS_MAX: usize = 20_000;

/// Why the items of a list cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SplitError {
    /// Nothing but white space.
    Empty,
    /// The first character does not begin an array.
    NotArray,
    /// The text ends before the array does.
    Truncated,
    /// Something follows the array.
    Trailing,
    /// More than [`PAGE_ITEMS_MAX`] items.
    TooManyItems,
}

/// Splits the text of a JSON array into the texts of its items, which are decoded apart, so that a broken one costs only
/// itself. Brackets are counted, not matched: the decoder of the item sees to the rest.
pub(super) fn split_array(body: &[u8]) -> Result<Vec<&[u8]>, SplitError> {
    let start = body.iter().position(|byte| !byte.is_ascii_whitespace()).ok_or(SplitError::Empty)?;
    if body[start] != b'[' {
        return Err(SplitError::NotArray);
    }
    let mut items = Vec::new();
    let (mut depth, mut item_start, mut at) = (0_usize, start + 1, start + 1);
    loop {
        match body.get(at).ok_or(SplitError::Truncated)? {
            b'"' => at = string_end(body, at + 1).ok_or(SplitError::Truncated)?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => depth -= 1,
            end @ (b',' | b']') if depth == 0 => {
                let item = body[item_start..at].trim_ascii();
                // `[]` has no item; any other empty place is a broken item and shown as one.
                if !(item.is_empty() && *end == b']' && items.is_empty()) {
                    items.push(item);
                }
                if items.len() > PAGE_ITEMS_MAX {
                    return Err(SplitError::TooManyItems);
                }
                item_start = at + 1;
                if *end == b']' {
                    break;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if body[at + 1..].iter().all(u8::is_ascii_whitespace) { Ok(items) } else { Err(SplitError::Trailing) }
}

/// Position of the quote that ends the string whose first character is at `at`.
fn string_end(body: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match body.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// A scalar of any type. Arrays, objects and null count as absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Field<'a> {
    /// Missing, null, or no scalar.
    #[default]
    Absent,
    /// A string.
    Text(Cow<'a, str>),
    /// A number without sign and fraction.
    Count(u64),
    /// Any other whole number.
    Negative(i64),
    /// Any other number.
    Fraction(f64),
    /// A truth value.
    Flag(bool),
}

impl<'a> Field<'a> {
    /// As text; numbers in their decimal form. Empty strings count as absent.
    pub(super) fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Field::Text(text) if !text.is_empty() => Some(Cow::Borrowed(text)),
            Field::Count(number) => Some(Cow::Owned(number.to_string())),
            Field::Negative(number) => Some(Cow::Owned(number.to_string())),
            Field::Fraction(number) => Some(Cow::Owned(number.to_string())),
            Field::Absent | Field::Text(_) | Field::Flag(_) => None,
        }
    }

    /// As a count; strings of digits too.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Field::Count(number) => Some(*number),
            Field::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// As a whole number; strings of digits too.
    pub(super) fn whole(&self) -> Option<i64> {
        match self {
            Field::Count(number) => i64::try_from(*number).ok(),
            Field::Negative(number) => Some(*number),
            Field::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// Whether it is false, as a truth value or as the string.
    pub(super) fn is_false(&self) -> bool {
        match self {
            Field::Flag(flag) => !*flag,
            Field::Text(text) => text.eq_ignore_ascii_case("false"),
            _ => false,
        }
    }

    /// Whether it is true, as a truth value or as the string.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Field::Flag(flag) => *flag,
            Field::Text(text) => text.eq_ignore_ascii_case("true"),
            _ => false,
        }
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Field::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Field::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Field::Count(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(value).map_or(Field::Negative(value), Field::Count))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Field::Fraction(value))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Field::Flag(value))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        skip_items(items)?;
        Ok(Field::Absent)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        skip_entries(entries)?;
        Ok(Field::Absent)
    }
}

impl<'de> Deserialize<'de> for Field<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

pub(super) fn skip_items<'de, A: SeqAccess<'de>>(mut items: A) -> Result<(), A::Error> {
    while items.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

pub(super) fn skip_entries<'de, A: MapAccess<'de>>(mut entries: A) -> Result<(), A::Error> {
    while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// The key of an object's entry.
pub(super) struct EntryKey<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for EntryKey<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = EntryKey<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(EntryKey(Cow::Borrowed(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
                Ok(EntryKey(Cow::Owned(value.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// The visitor methods of scalars, for types that take a container: the value is the default.
macro_rules! absent_unless_container {
    () => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Default::default())
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Default::default())
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Default::default())
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Default::default())
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Default::default())
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
    };
}
pub(super) use absent_unless_container;

/// Most items of a list inside a record that are decoded; the rest is skipped. An item takes up to a hundred times its
/// text in memory, so that a body full of `0,0,…` would otherwise take gigabytes.
pub(super) const NESTED_ITEMS_MAX: usize = 1_001;

/// The first [`NESTED_ITEMS_MAX`] items of an array, each decoded leniently; anything but an array has none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Items<T>(pub(super) Vec<T>);

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ItemsVisitor<T> {
            type Value = Items<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut read = Vec::new();
                while read.len() < NESTED_ITEMS_MAX {
                    match items.next_element()? {
                        Some(item) => read.push(item),
                        None => return Ok(Items(read)),
                    }
                }
                skip_items(items)?;
                Ok(Items(read))
            }

            absent_unless_container!();

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
                skip_entries(entries)?;
                Ok(Items::default())
            }
        }
        deserializer.deserialize_any(ItemsVisitor(PhantomData))
    }
}

/// Defines a struct of the wanted keys of a JSON object. Unknown keys are skipped, of doubled keys the last one counts,
/// missing keys and objects of the wrong type give the default.
macro_rules! lenient_object {
    ($(#[$doc:meta])* $name:ident<$lifetime:lifetime> { $($field:ident: $type:ty = $($key:literal)|+,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(in $crate::okta::wire) struct $name<$lifetime> {
            $(pub(in $crate::okta::wire) $field: $type,)+
            lifetime: std::marker::PhantomData<&$lifetime ()>,
        }

        impl<'de: $lifetime, $lifetime> serde::Deserialize<'de> for $name<$lifetime> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ObjectVisitor<$lifetime>(std::marker::PhantomData<&$lifetime ()>);
                impl<'de: $lifetime, $lifetime> serde::de::Visitor<'de> for ObjectVisitor<$lifetime> {
                    type Value = $name<$lifetime>;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("any value")
                    }

                    $crate::okta::wire::lenient::absent_unless_container!();

                    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                        $crate::okta::wire::lenient::skip_items(items)?;
                        Ok(Default::default())
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                        let mut read = $name::default();
                        while let Some(key) = entries.next_key::<$crate::okta::wire::lenient::EntryKey<'de>>()? {
                            match &*key.0 {
                                $($($key)|+ => read.$field = entries.next_value()?,)+
                                _ => {
                                    entries.next_value::<serde::de::IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(read)
                    }
                }
                deserializer.deserialize_any(ObjectVisitor(std::marker::PhantomData))
            }
        }
    };
}
pub(super) use lenient_object;

#[cfg(test)]
mod tests {
    use super::*;

    lenient_object! {
        /// A made-up object.
        Inner<'a> { name: Field<'a> = "name" | "name\"", }
    }
    lenient_object! {
        /// A made-up object.
        Outer<'a> { id: Field<'a> = "id", inner: Inner<'a> = "inner", list: Items<Field<'a>> = "list", }
    }

    #[test]
    fn arrays_are_split() {
        #[track_caller]
        fn check(body: &str, expected: Result<&[&str], SplitError>) {
            let items = split_array(body.as_bytes());
            let expected = expected.map(|items| items.iter().map(|item| item.as_bytes()).collect::<Vec<_>>());
            assert_eq!(items, expected, "{body}");
        }
        check("[]", Ok(&[]));
        check(" [ ] \n", Ok(&[]));
        check(r#"[{"a":[1,2]},"x,]}\"",3 , null]"#, Ok(&[r#"{"a":[1,2]}"#, r#""x,]}\"""#, "3", "null"]));
        check("[1,]", Ok(&["1", ""]));
        check("[,]", Ok(&["", ""]));
        check("[[[]]]", Ok(&["[[]]"]));
        check("", Err(SplitError::Empty));
        check(" \n", Err(SplitError::Empty));
        check("{}", Err(SplitError::NotArray));
        check("<html>", Err(SplitError::NotArray));
        check("[", Err(SplitError::Truncated));
        check(r#"[{"a":1}"#, Err(SplitError::Truncated));
        check(r#"["a"#, Err(SplitError::Truncated));
        check(r#"["a\"#, Err(SplitError::Truncated));
        check("[]x", Err(SplitError::Trailing));
        check("[}]", Ok(&["}"]));
        let many = format!("[{}1]", "1,".repeat(PAGE_ITEMS_MAX));
        assert_eq!(split_array(many.as_bytes()), Err(SplitError::TooManyItems));
        assert_eq!(split_array(many.replacen("1,", "", 1).as_bytes()).map(|items| items.len()), Ok(PAGE_ITEMS_MAX));
    }

    #[test]
    fn objects_are_read_leniently() {
        #[track_caller]
        fn check(json: &str, id: Option<&str>, name: Option<&str>, items: usize) {
            let read: Outer<'_> = serde_json::from_str(json).unwrap();
            assert_eq!(read.id.text().as_deref(), id, "{json}");
            assert_eq!(read.inner.name.text().as_deref(), name, "{json}");
            assert_eq!(read.list.0.len(), items, "{json}");
        }
        check(r#"{"id":"a","inner":{"name":"b"},"list":["c",1]}"#, Some("a"), Some("b"), 2);
        check(r#"{"id":"a","id":"b","x":{"y":[]}}"#, Some("b"), None, 0);
        check(r#"{"inner":{"name\"":"\u00e4"}}"#, None, Some("ä"), 0);
        check(r#"{"id":12,"inner":{"name":-3},"list":{"a":1}}"#, Some("12"), Some("-3"), 0);
        check(r#"{"id":1.5,"inner":[1,[2]],"list":"x"}"#, Some("1.5"), None, 0);
        check(r#"{"id":true,"inner":null,"list":null}"#, None, None, 0);
        check(r#"{"id":"","inner":7,"list":7.5}"#, None, None, 0);
        check("null", None, None, 0);
        check("[1]", None, None, 0);
    }

    #[test]
    fn long_lists_are_cut() {
        let json = format!(r#"{{"list":[{}0],"id":"a"}}"#, "0,".repeat(5_000));
        let read: Outer<'_> = serde_json::from_str(&json).unwrap();
        assert_eq!((read.list.0.len(), read.id.text().as_deref()), (NESTED_ITEMS_MAX, Some("a")));
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        let json = format!(r#"{{"x":{deep},"id":{deep},"inner":{{"y":{deep}}}}}"#);
        let read: Outer<'_> = serde_json::from_str(&json).unwrap();
        assert_eq!(read.id, Field::Absent);
        assert!(split_array(deep.as_bytes()).is_ok());
    }
}
