//! The query language: text to clauses. Pure.
//!
//! Entry point: `parse`, behind [`crate::Reader::search`].
//!
//! | written                        | means                                                                       |
//! |--------------------------------|-----------------------------------------------------------------------------|
//! | `anna müller`                  | both words, anywhere in names and accounts; the last may be a beginning     |
//! | `"anna müller"`                | these words next to each other                                              |
//! | `mül*`                         | a word that begins so                                                       |
//! | `muler~`                       | a word one edit away; two from [`FUZZY_TWO_EDITS_CHARS_MIN`] characters     |
//! | `kind:user`, `status:ACTIVE`   | filters; several of one field mean any of them                              |
//! | `app:0oa1`, `app:jira`, `app:"Jira Cloud"` | id, word of the label, or whole label                           |
//! | `account:jdoe`                 | an account called so, or with this word in its name; `account:jd*` too      |
//! | `id:00u1`                      | exactly this id; of an external id that a machine made, in any case         |
//! | `-word`, `-kind:app`           | not this                                                                    |
//!
//! If nothing matches as written, words of four characters and more are tried with one edit.
//!
//! Beginnings, phrases and misspellings do not find mappings (`account:` with `*` or `~` does): they find the user. Names of
//! accounts that a machine made are found whole, and with `account:` also by their beginning.
//!
//! A walk over all matches has a bound: [`crate::Extent::Part`].
//!
//! In quotes `\"` is a quote and `\\` a backslash; elsewhere a backslash is itself, so `DOMAIN\user` needs no care.
//! Field names are case-insensitive.
//!
//! Invariants:
//! - Never panics; every error carries a byte position inside the query (or its length).
//! - At most [`QUERY_TERMS_MAX`] clauses, at least one of them positive; no nesting.

use crate::doc::DocKind;

/// Bytes of a query. What a person types; it bounds all work below.
pub const QUERY_BYTES_MAX: usize = 512;

/// Clauses of a query. Each costs a walk over its matches.
pub const QUERY_TERMS_MAX: usize = 16;

/// Characters from which `word~` allows two edits: in shorter words two edits match nearly anything.
pub const FUZZY_TWO_EDITS_CHARS_MIN: usize = 8;

/// The names of the filters, for messages.
const FIELD_NAMES: &str = "kind, status, app, account or id";

/// Why a query is not understood. Positions are byte offsets into the query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No clause at all.
    #[error("parse query: nothing to search for")]
    Empty,
    /// Longer than [`QUERY_BYTES_MAX`].
    #[error("parse query: {found} bytes, at most {QUERY_BYTES_MAX} are allowed")]
    TooLong {
        /// Bytes given.
        found: usize,
    },
    /// More than [`QUERY_TERMS_MAX`] clauses.
    #[error("parse query: more than {QUERY_TERMS_MAX} terms, the first too many at byte {position}")]
    TooManyTerms {
        /// Where the first one too many starts.
        position: usize,
    },
    /// A quote is not closed.
    #[error("parse query: the quote at byte {position} is not closed")]
    UnclosedQuote {
        /// Where it opens.
        position: usize,
    },
    /// Text directly after a closing quote.
    #[error("parse query: a space is missing after the closing quote, at byte {position}")]
    AfterQuote {
        /// Where the text starts.
        position: usize,
    },
    /// A word before a colon that is no filter.
    #[error(
        "parse query: {name:?} at byte {position} is not a filter: expected {FIELD_NAMES}; quote the word to search for it"
    )]
    UnknownField {
        /// Where it starts.
        position: usize,
        /// What was written.
        name: String,
    },
    /// Nothing after a colon, a minus or before `*` or `~`.
    #[error("parse query: a value is missing at byte {position}")]
    MissingValue {
        /// Where it should be.
        position: usize,
    },
    /// `kind:` with a word that is no kind.
    #[error("parse query: {value:?} at byte {position} is not a kind: expected user, app, group or mapping")]
    UnknownKind {
        /// Where it starts.
        position: usize,
        /// What was written.
        value: String,
    },
    /// `*` or `~` where only exact values are compared.
    #[error("parse query: {suffix:?} at byte {position} works with words and account: only")]
    SuffixNotAllowed {
        /// Where it stands.
        position: usize,
        /// `*` or `~`.
        suffix: char,
    },
    /// Only `-` clauses: nothing that could be found.
    #[error("parse query: every term is excluded; add one to search for")]
    OnlyExcluded,
}

/// How a word is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// As a whole word (the last word of a query: also as a beginning).
    Word,
    /// As words next to each other.
    Phrase,
    /// As the beginning of a word.
    Prefix,
    /// With edits.
    Fuzzy,
}

/// What a clause looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Words in names and accounts.
    Words { text: String, how: Match },
    /// A kind.
    Kind(DocKind),
    /// A status.
    Status(String),
    /// An app by id or label.
    App(String),
    /// An account name.
    Account { text: String, how: Match },
    /// An exact id.
    Id(String),
}

/// One clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    /// Where it starts in the query, in bytes.
    pub(crate) position: usize,
    /// Whether matches are excluded.
    pub(crate) excluded: bool,
    pub(crate) target: Target,
}

/// Parses a query. See the table above.
pub(crate) fn parse(query: &str) -> Result<Vec<Clause>, ParseError> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(ParseError::TooLong { found: query.len() });
    }
    let mut clauses = Vec::new();
    let mut position = 0;
    loop {
        position += query[position..].len() - query[position..].trim_start().len();
        if position == query.len() {
            break;
        }
        let (clause, end) = clause_at(query, position)?;
        position = end;
        let Some(clause) = clause else { continue };
        if clauses.len() == QUERY_TERMS_MAX {
            return Err(ParseError::TooManyTerms { position: clause.position });
        }
        clauses.push(clause);
    }
    if clauses.is_empty() {
        return Err(ParseError::Empty);
    }
    if clauses.iter().all(|clause| clause.excluded) {
        return Err(ParseError::OnlyExcluded);
    }
    Ok(clauses)
}

/// The clause at `start` (not a space) and where it ends. `None`: punctuation on its own, as in `anna & co`.
fn clause_at(query: &str, start: usize) -> Result<(Option<Clause>, usize), ParseError> {
    let excluded = query[start..].starts_with('-');
    let body = start + usize::from(excluded);
    let word_end = word_end(query, body);
    let (field, value_start) = field_at(query, body, word_end)?;
    if query[value_start..].starts_with('"') {
        let (text, end) = quoted(query, value_start)?;
        let target = target(field, &text, Match::Phrase, value_start)?;
        return Ok((Some(Clause { position: start, excluded, target }), end));
    }
    let written = &query[value_start..word_end];
    let (text, how) = match written.strip_suffix('*') {
        Some(text) => (text, Match::Prefix),
        None => written.strip_suffix('~').map_or((written, Match::Word), |text| (text, Match::Fuzzy)),
    };
    let without_letters = !text.chars().any(char::is_alphanumeric);
    if field.is_none() && without_letters && how == Match::Word && !text.is_empty() {
        return Ok((None, word_end));
    }
    if field.is_none() && excluded && written.is_empty() {
        return Ok((None, word_end)); // A dash between words.
    }
    if text.is_empty() || (field.is_none() && without_letters) {
        return Err(ParseError::MissingValue { position: value_start });
    }
    let target = target(field, text, how, value_start)?;
    Ok((Some(Clause { position: start, excluded, target }), word_end))
}

fn word_end(query: &str, start: usize) -> usize {
    query[start..].find(char::is_whitespace).map_or(query.len(), |length| start + length)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldName {
    Kind,
    Status,
    App,
    Account,
    Id,
}

/// The filter that starts at `start`, if one does, and where its value starts.
fn field_at(query: &str, start: usize, end: usize) -> Result<(Option<FieldName>, usize), ParseError> {
    let word = &query[start..end];
    let Some(colon) = word.find([':', '"']).filter(|offset| word[*offset..].starts_with(':')) else {
        return Ok((None, start));
    };
    let name = &word[..colon];
    let field = match name.to_ascii_lowercase().as_str() {
        "kind" => FieldName::Kind,
        "status" => FieldName::Status,
        "app" => FieldName::App,
        "account" => FieldName::Account,
        "id" => FieldName::Id,
        _ => return Err(ParseError::UnknownField { position: start, name: name.to_owned() }),
    };
    Ok((Some(field), start + colon + 1))
}

/// The text of the quotation that opens at `open`, and where it ends.
fn quoted(query: &str, open: usize) -> Result<(String, usize), ParseError> {
    let mut text = String::new();
    let mut characters = query[open + 1..].char_indices().peekable();
    while let Some((offset, character)) = characters.next() {
        match character {
            '"' => {
                let end = open + 1 + offset + 1;
                if query[end..].chars().next().is_some_and(|next| !next.is_whitespace()) {
                    return Err(ParseError::AfterQuote { position: end });
                }
                return Ok((text, end));
            }
            '\\' => {
                let escaped = characters.next_if(|(_, next)| matches!(next, '"' | '\\'));
                text.push(escaped.map_or('\\', |(_, next)| next));
            }
            _ => text.push(character),
        }
    }
    Err(ParseError::UnclosedQuote { position: open })
}

fn target(field: Option<FieldName>, text: &str, how: Match, position: usize) -> Result<Target, ParseError> {
    if !text.chars().any(|character| !character.is_whitespace()) {
        return Err(ParseError::MissingValue { position });
    }
    if let (Some(FieldName::Kind | FieldName::Status | FieldName::App | FieldName::Id), Match::Prefix | Match::Fuzzy) =
        (field, how)
    {
        let suffix = if how == Match::Prefix { '*' } else { '~' };
        return Err(ParseError::SuffixNotAllowed { position: position + text.len(), suffix });
    }
    let text = text.to_owned();
    Ok(match field {
        None => Target::Words { text, how },
        Some(FieldName::Status) => Target::Status(text),
        Some(FieldName::App) => Target::App(text),
        Some(FieldName::Account) => Target::Account { text, how },
        Some(FieldName::Id) => Target::Id(text),
        Some(FieldName::Kind) => match text.parse() {
            Ok(kind) => Target::Kind(kind),
            Err(_) => return Err(ParseError::UnknownKind { position, value: text }),
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(clause: &Clause) -> String {
        let mark = |how: Match| match how {
            Match::Word => "",
            Match::Phrase => "\"",
            Match::Prefix => "*",
            Match::Fuzzy => "~",
        };
        let target = match &clause.target {
            Target::Words { text, how } => format!("{text}{}", mark(*how)),
            Target::Kind(kind) => format!("kind={kind}"),
            Target::Status(status) => format!("status={status}"),
            Target::App(app) => format!("app={app}"),
            Target::Account { text, how } => format!("account={text}{}", mark(*how)),
            Target::Id(id) => format!("id={id}"),
        };
        format!("{}{}{target}", clause.position, if clause.excluded { "-" } else { ":" })
    }

    #[track_caller]
    fn check(query: &str, expected: &str) {
        let shown: Vec<String> = parse(query).unwrap_or_else(|error| panic!("{error}")).iter().map(show).collect();
        assert_eq!(shown.join(" | "), expected, "{query:?}");
    }

    #[track_caller]
    fn check_error(query: &str, expected: ParseError) {
        assert_eq!(parse(query), Err(expected), "{query:?}");
    }

    #[test]
    fn queries_parse() {
        check("anna müller", "0:anna | 5:müller");
        check("  anna\t\u{3000}b ", "2:anna | 10:b");
        check(r#""anna  müller" x"#, "0:anna  müller\" | 16:x");
        check("mül* muler~", "0:mül* | 6:muler~");
        check("kind:user KIND:App", "0:kind=user | 10:kind=app");
        check(r#"status:ACTIVE app:0oa1 app:"Jira Cloud""#, "0:status=ACTIVE | 14:app=0oa1 | 23:app=Jira Cloud");
        check("account:jd* account:jdoe~ id:00u1", "0:account=jd* | 12:account=jdoe~ | 26:id=00u1");
        check(r#"a -b -kind:app -"c d" -app:"x y""#, "0:a | 2-b | 5-kind=app | 15-c d\" | 22-app=x y");
        check(r"DOMAIN\user", r"0:DOMAIN\user");
        check(r#""DOMAIN\user" "a\"b\\""#, r#"0:DOMAIN\user" | 14:a"b\""#);
        check("o'brien anne-marie j.doe@example.com", "0:o'brien | 8:anne-marie | 19:j.doe@example.com");
        check("anna - & müller", "0:anna | 9:müller"); // Punctuation on its own is no word.
        check(r#"5"disk"#, r#"0:5"disk"#);
        check(r#""kind:user""#, "0:kind:user\"");
        check(r#"a"b:c"#, r#"0:a"b:c"#); // The quote comes before the colon: not a filter.
        check("a*b a**", "0:a*b | 4:a**");
    }

    #[test]
    fn errors_say_where() {
        check_error("", ParseError::Empty);
        check_error(" - & ", ParseError::Empty);
        check_error("-anna", ParseError::OnlyExcluded);
        check_error(r#"a "b c"#, ParseError::UnclosedQuote { position: 2 });
        check_error(r#"""#, ParseError::UnclosedQuote { position: 0 });
        check_error(r#""a"b"#, ParseError::AfterQuote { position: 3 });
        check_error("x foo:bar", ParseError::UnknownField { position: 2, name: "foo".to_owned() });
        check_error(":x", ParseError::UnknownField { position: 0, name: String::new() });
        check_error("app:", ParseError::MissingValue { position: 4 });
        check_error(r#"app:"" "#, ParseError::MissingValue { position: 4 });
        check_error("x *", ParseError::MissingValue { position: 2 });
        check_error("-~", ParseError::MissingValue { position: 1 });
        check_error("kind:users", ParseError::UnknownKind { position: 5, value: "users".to_owned() });
        check_error("id:00u*", ParseError::SuffixNotAllowed { position: 6, suffix: '*' });
        check_error("kind:user~", ParseError::SuffixNotAllowed { position: 9, suffix: '~' });
        check_error(&"a".repeat(513), ParseError::TooLong { found: 513 });
        check_error(&"a ".repeat(17), ParseError::TooManyTerms { position: 32 });
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hostile_text_never_panics(query in "(?s)[a:\"\\\\*~ \\-ä山\u{3000}kindap\n]{0,40}|.{0,80}") {
            if let Ok(clauses) = parse(&query) {
                prop_assert!(!clauses.is_empty() && clauses.len() <= QUERY_TERMS_MAX);
                prop_assert!(clauses.iter().all(|clause| query.is_char_boundary(clause.position)));
            }
        }

        #[test]
        fn a_quoted_text_comes_back(text in "\\PC{1,40}") {
            prop_assume!(text.chars().any(|c| !c.is_whitespace()));
            let query = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let expected = vec![Clause { position: 0, excluded: false, target: Target::Words { text, how: Match::Phrase } }];
            prop_assert_eq!(parse(&query), Ok(expected));
        }
    }
}
