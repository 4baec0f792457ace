//! The expression language of `filter` and `search` (facts 0.2): parser, per-endpoint restrictions, evaluation.
//!
//! Entry points: [`parse`], [`Expr::check`], [`Expr::matches`].
//!
//! Invariants: nesting and the number of comparisons are bounded, so no input can exhaust the stack; evaluation is
//! total: an attribute that is absent compares false (and true for `ne`).

use std::borrow::Cow;

use crate::time::{UnixMs, parse_iso_ms};

/// Nesting of parentheses and `not`. Okta documents no bound; real expressions stay below five.
const DEPTH_MAX: usize = 40;
/// Comparisons in one expression. "Over-complex" expressions are refused (facts 0.2) at an undocumented bound; 200 is
/// the size of the largest sensible batch of ids (facts 1.3).
pub(crate) const TERMS_MAX: usize = 200;

/// Why an expression was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ExprError {
    #[error("Unexpected end of the expression.")]
    End,
    #[error("Unexpected '{0}'.")]
    Unexpected(String),
    #[error("Unterminated string.")]
    Unterminated,
    #[error("The expression is too complex.")]
    TooComplex,
    #[error("Operator '{operator}' is not supported for '{attribute}'.")]
    Unsupported { attribute: String, operator: &'static str },
    #[error("Invalid date '{0}'.")]
    Date(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    Sw,
    Ew,
    Co,
    Pr,
}

impl Operator {
    const ALL: [(&'static str, Self); 10] = [
        ("eq", Self::Eq),
        ("ne", Self::Ne),
        ("gt", Self::Gt),
        ("ge", Self::Ge),
        ("lt", Self::Lt),
        ("le", Self::Le),
        ("sw", Self::Sw),
        ("ew", Self::Ew),
        ("co", Self::Co),
        ("pr", Self::Pr),
    ];

    /// Operators are case-insensitive.
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, operator)| *operator)
    }

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, operator)| *operator == self).map_or("", |(name, _)| name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Compare { attribute: String, operator: Operator, value: String },
}

/// A value of an attribute.
pub(crate) enum Value<'a> {
    Text(Cow<'a, str>),
    Time(UnixMs),
    Many(Vec<String>),
}

impl<'a> Value<'a> {
    pub(crate) fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

#[derive(Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Text(String),
    Word(String),
}

fn tokens(text: &str) -> Result<Vec<Token>, ExprError> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            ' ' | '\t' => {}
            '(' => tokens.push(Token::Open),
            ')' => tokens.push(Token::Close),
            '"' => {
                let mut value = String::new();
                loop {
                    match rest.next().ok_or(ExprError::Unterminated)? {
                        '"' => break,
                        '\\' => value.push(rest.next().ok_or(ExprError::Unterminated)?),
                        other => value.push(other),
                    }
                }
                tokens.push(Token::Text(value));
            }
            word if word.is_alphanumeric() || word == '_' || word == '-' => {
                let mut value = String::from(word);
                while let Some(next) = rest.next_if(|next| next.is_alphanumeric() || "_-.:".contains(*next)) {
                    value.push(next);
                }
                tokens.push(Token::Word(value));
            }
            other => return Err(ExprError::Unexpected(other.to_string())),
        }
    }
    Ok(tokens)
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    terms: usize,
}

/// Reads an expression.
pub(crate) fn parse(text: &str) -> Result<Expr, ExprError> {
    let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable(), terms: 0 };
    let expr = parser.either(0)?;
    match parser.tokens.next() {
        None => Ok(expr),
        Some(token) => Err(unexpected(&token)),
    }
}

fn unexpected(token: &Token) -> ExprError {
    ExprError::Unexpected(match token {
        Token::Open => "(".to_owned(),
        Token::Close => ")".to_owned(),
        Token::Text(text) | Token::Word(text) => text.clone(),
    })
}

impl Parser {
    fn take_word(&mut self, wanted: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(wanted))).is_some()
    }

    fn either(&mut self, depth: usize) -> Result<Expr, ExprError> {
        let mut parts = vec![self.both(depth)?];
        while self.take_word("or") {
            parts.push(self.both(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::Or(parts) })
    }

    fn both(&mut self, depth: usize) -> Result<Expr, ExprError> {
        let mut parts = vec![self.single(depth)?];
        while self.take_word("and") {
            parts.push(self.single(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::And(parts) })
    }

    fn single(&mut self, depth: usize) -> Result<Expr, ExprError> {
        if depth >= DEPTH_MAX {
            return Err(ExprError::TooComplex);
        }
        if self.take_word("not") {
            return Ok(Expr::Not(Box::new(self.single(depth + 1)?)));
        }
        match self.tokens.next().ok_or(ExprError::End)? {
            Token::Open => {
                let inner = self.either(depth + 1)?;
                match self.tokens.next().ok_or(ExprError::End)? {
                    Token::Close => Ok(inner),
                    other => Err(unexpected(&other)),
                }
            }
            Token::Word(attribute) => self.comparison(attribute),
            other => Err(unexpected(&other)),
        }
    }

    fn comparison(&mut self, attribute: String) -> Result<Expr, ExprError> {
        self.terms += 1;
        if self.terms > TERMS_MAX {
            return Err(ExprError::TooComplex);
        }
        let operator = match self.tokens.next().ok_or(ExprError::End)? {
            Token::Word(word) => Operator::parse(&word).ok_or(ExprError::Unexpected(word))?,
            other => return Err(unexpected(&other)),
        };
        if operator == Operator::Pr {
            return Ok(Expr::Compare { attribute, operator, value: String::new() });
        }
        match self.tokens.next().ok_or(ExprError::End)? {
            Token::Text(value) => Ok(Expr::Compare { attribute, operator, value }),
            // Booleans and numbers stand without quotes; any other bare word is an error.
            Token::Word(value) if value == "true" || value == "false" || value.parse::<f64>().is_ok() => {
                Ok(Expr::Compare { attribute, operator, value })
            }
            other => Err(unexpected(&other)),
        }
    }
}

impl Expr {
    /// Refuses the first comparison that `allowed(attribute, operator)` does not accept, and bad dates.
    pub(crate) fn check(&self, dialect: Dialect) -> Result<(), ExprError> {
        match self {
            Self::And(parts) | Self::Or(parts) => {
                if dialect == Dialect::App {
                    return Err(ExprError::TooComplex);
                }
                parts.iter().try_for_each(|part| part.check(dialect))
            }
            Self::Not(part) => {
                if matches!(dialect, Dialect::App | Dialect::UserFilter | Dialect::GroupFilter) {
                    return Err(ExprError::Unexpected("not".to_owned()));
                }
                part.check(dialect)
            }
            Self::Compare { attribute, operator, value } => {
                if !dialect.allows(attribute, *operator) {
                    return Err(ExprError::Unsupported { attribute: attribute.clone(), operator: operator.name() });
                }
                if is_date(attribute) && *operator != Operator::Pr && parse_iso_ms(value).is_none() {
                    return Err(ExprError::Date(value.clone()));
                }
                Ok(())
            }
        }
    }

    /// Whether an object fulfils the expression. `case_sensitive` concerns values; attribute names always are.
    pub(crate) fn matches<'a>(&self, case_sensitive: bool, attribute_of: &dyn Fn(&str) -> Option<Value<'a>>) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.matches(case_sensitive, attribute_of)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(case_sensitive, attribute_of)),
            Self::Not(part) => !part.matches(case_sensitive, attribute_of),
            Self::Compare { attribute, operator, value } => {
                compare(attribute_of(attribute).as_ref(), *operator, value, case_sensitive)
            }
        }
    }

    /// The ids of a pure `id eq "a" or id eq "b" ..`, so that a batch needs no walk over everything.
    pub(crate) fn id_batch(&self) -> Option<Vec<String>> {
        let parts: &[Self] = match self {
            Self::Or(parts) => parts,
            single => std::slice::from_ref(single),
        };
        let id_of = |part: &'_ Self| match part {
            Self::Compare { attribute, operator: Operator::Eq, value } if attribute == "id" => Some(value.clone()),
            _ => None,
        };
        parts.iter().map(id_of).collect()
    }
}

fn compare(found: Option<&Value<'_>>, operator: Operator, wanted: &str, case_sensitive: bool) -> bool {
    let Some(found) = found else { return operator == Operator::Ne };
    match found {
        Value::Text(text) => compare_text(text, operator, wanted, case_sensitive),
        Value::Many(texts) => texts.iter().any(|text| compare_text(text, operator, wanted, case_sensitive)),
        Value::Time(at) => {
            if operator == Operator::Pr {
                return true;
            }
            let Some(wanted) = parse_iso_ms(wanted) else { return false };
            match operator {
                Operator::Eq => *at == wanted,
                Operator::Ne => *at != wanted,
                Operator::Gt => *at > wanted,
                Operator::Ge => *at >= wanted,
                Operator::Lt => *at < wanted,
                Operator::Le => *at <= wanted,
                Operator::Sw | Operator::Ew | Operator::Co | Operator::Pr => false,
            }
        }
    }
}

fn compare_text(text: &str, operator: Operator, wanted: &str, case_sensitive: bool) -> bool {
    if operator == Operator::Pr {
        return !text.is_empty();
    }
    let fold = |value: &str| if case_sensitive { value.to_owned() } else { value.to_lowercase() };
    let (text, wanted) = (fold(text), fold(wanted));
    match operator {
        Operator::Eq => text == wanted,
        Operator::Ne => text != wanted,
        Operator::Gt => text > wanted,
        Operator::Ge => text >= wanted,
        Operator::Lt => text < wanted,
        Operator::Le => text <= wanted,
        Operator::Sw => text.starts_with(&wanted),
        Operator::Ew => text.ends_with(&wanted),
        Operator::Co => text.contains(&wanted),
        Operator::Pr => true,
    }
}

fn is_date(attribute: &str) -> bool {
    matches!(
        attribute,
        "created" | "activated" | "statusChanged" | "lastUpdated" | "lastLogin" | "lastMembershipUpdated"
    )
}

/// Which operators an endpoint takes for which attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `users?search=`: everything but `ne`; `co` for four profile attributes only (facts 2.2).
    UserSearch,
    /// `users?filter=`: a few attributes, values case-sensitive (facts 0.2).
    UserFilter,
    /// `groups?search=`: `sw`, `eq`, and `co` for name and description (facts 3).
    GroupSearch,
    /// `groups?filter=`: types and ids by `eq`, dates by comparison (facts 3).
    GroupFilter,
    /// `apps?filter=`: one `eq` (facts 1.1).
    App,
    /// `logs?filter=`: everything, but not `published`, and no `co` on two debug attributes (facts 8.1).
    Log,
}

impl Dialect {
    pub(crate) fn error_code(self) -> &'static str {
        if self == Self::Log { "E0000053" } else { "E0000031" }
    }

    pub(crate) fn is_case_sensitive(self) -> bool {
        self == Self::UserFilter
    }

    fn allows(self, attribute: &str, operator: Operator) -> bool {
        use Operator::{Co, Eq, Ew, Ge, Gt, Le, Lt, Ne, Sw};
        match self {
            Self::UserSearch => match operator {
                Ne | Ew => false,
                Co => matches!(attribute, "profile.firstName" | "profile.lastName" | "profile.email" | "profile.login"),
                _ => true,
            },
            Self::UserFilter => match attribute {
                "lastUpdated" => matches!(operator, Eq | Gt | Ge | Lt | Le),
                "status" | "id" | "profile.login" | "profile.email" | "profile.firstName" | "profile.lastName" => {
                    operator == Eq
                }
                _ => false,
            },
            Self::GroupSearch => match operator {
                Eq | Sw => true,
                Co => matches!(attribute, "profile.name" | "profile.description"),
                _ => false,
            },
            Self::GroupFilter => match attribute {
                "lastUpdated" | "lastMembershipUpdated" => matches!(operator, Eq | Gt | Lt),
                "id" | "type" | "objectClass" => operator == Eq,
                _ => false,
            },
            Self::App => {
                operator == Eq
                    && matches!(attribute, "status" | "user.id" | "group.id" | "name" | "credentials.signing.kid")
            }
            Self::Log => match attribute {
                "published" => false,
                "debugContext.debugData.requestUri" | "debugContext.debugData.url" => operator != Co,
                _ => true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> Option<Value<'static>> {
        match name {
            "id" => Some(Value::text("00u1")),
            "status" => Some(Value::text("ACTIVE")),
            "profile.lastName" => Some(Value::text("O\"Brien")),
            "profile.login" => Some(Value::text("Ada@acme.example")),
            "lastUpdated" => Some(Value::Time(parse_iso_ms("2026-01-01T00:00:00.000Z").unwrap())),
            "target.id" => Some(Value::Many(vec!["a".to_owned(), "b".to_owned()])),
            "profile.empty" => Some(Value::text("")),
            _ => None,
        }
    }

    #[track_caller]
    fn check(text: &str, expected: bool) {
        assert_eq!(parse(text).unwrap().matches(false, &|name| sample(name)), expected, "{text}");
    }

    #[test]
    fn expressions_are_evaluated() {
        check("status pr", true);
        check("nothing pr", false);
        check("profile.empty pr", false);
        check("status eq \"active\"", true);
        check("status EQ \"ACTIVE\" AND profile.login sw \"ada\"", true);
        check("status eq \"STAGED\" or profile.login co \"@ACME\"", true);
        // and binds more tightly than or.
        check("status eq \"ACTIVE\" or status eq \"STAGED\" and id eq \"no\"", true);
        check("(status eq \"ACTIVE\" or status eq \"STAGED\") and id eq \"no\"", false);
        check("not (status eq \"STAGED\")", true);
        check("not status eq \"ACTIVE\"", false);
        check("not not status pr", true);
        check("profile.lastName eq \"O\\\"Brien\"", true);
        check("lastUpdated gt \"2025-12-31T23:59:59.999Z\"", true);
        check("lastUpdated gt \"2026-01-01T00:00:00.000Z\"", false);
        check("lastUpdated ge \"2026-01-01T00:00:00.000Z\"", true);
        check("lastUpdated lt \"2026-01-01T01:00:00.000+02:00\"", false);
        check("lastUpdated le \"2026-01-01\"", true);
        check("lastUpdated ne \"2026-01-01\"", false);
        check("target.id eq \"b\"", true);
        check("target.id eq \"c\"", false);
        check("nothing ne \"x\"", true);
        check("profile.login ew \"example\"", true);
        check("id lt \"00u2\" and id gt \"00u0\"", true);
        assert!(!parse("status eq \"active\"").unwrap().matches(true, &|name| sample(name)), "case-sensitive");
    }

    #[track_caller]
    fn check_bad(text: &str) {
        assert!(parse(text).is_err(), "{text}");
    }

    #[test]
    fn bad_expressions_are_refused() {
        for text in [
            "",
            " ",
            "status",
            "status eq",
            "status eq ACTIVE",
            "status xx \"a\"",
            "status eq \"a",
            "(status pr",
            "status pr)",
        ] {
            check_bad(text);
        }
        for text in [
            "and",
            "status pr and",
            "or status pr",
            "status pr status pr",
            "\"a\" eq \"b\"",
            "target[0].id eq \"a\"",
            "eq",
            "a eq \"b\\",
        ] {
            check_bad(text);
        }
        check_bad(&"(".repeat(100_000));
        check_bad(&"not ".repeat(100_000));
        check_bad(&vec!["id eq \"a\""; TERMS_MAX + 1].join(" or "));
        assert!(parse(&vec!["id eq \"a\""; TERMS_MAX].join(" or ")).is_ok());
    }

    #[track_caller]
    fn check_dialect(dialect: Dialect, text: &str, expected: bool) {
        assert_eq!(parse(text).unwrap().check(dialect).is_ok(), expected, "{dialect:?}: {text}");
    }

    #[test]
    fn endpoints_restrict_operators() {
        use Dialect::{App, GroupFilter, GroupSearch, Log, UserFilter, UserSearch};
        check_dialect(UserSearch, "status pr", true);
        check_dialect(UserSearch, "status ne \"ACTIVE\"", false);
        check_dialect(UserSearch, "profile.login co \"a\"", true);
        check_dialect(UserSearch, "profile.department co \"a\"", false);
        check_dialect(UserSearch, "profile.department sw \"a\"", true);
        check_dialect(UserSearch, "lastUpdated gt \"yesterday\"", false);
        check_dialect(UserFilter, "status eq \"ACTIVE\" or lastUpdated gt \"2026-01-01T00:00:00.000Z\"", true);
        check_dialect(UserFilter, "status pr", false);
        check_dialect(UserFilter, "profile.department eq \"a\"", false);
        check_dialect(GroupSearch, "profile.name co \"a\" and type eq \"APP_GROUP\"", true);
        check_dialect(GroupSearch, "lastUpdated gt \"2026-01-01T00:00:00.000Z\"", false);
        check_dialect(GroupSearch, "source.id eq \"0oa1\"", true);
        check_dialect(
            GroupFilter,
            "lastUpdated gt \"2026-01-01T00:00:00.000Z\" or lastMembershipUpdated gt \"2026-01-01\"",
            true,
        );
        check_dialect(GroupFilter, "profile.name eq \"a\"", false);
        check_dialect(App, "status eq \"ACTIVE\"", true);
        check_dialect(App, "status eq \"ACTIVE\" and name eq \"a\"", false);
        check_dialect(App, "lastUpdated eq \"2026-01-01\"", false);
        check_dialect(Log, "eventType sw \"user.\" and not (eventType ne \"a\")", true);
        check_dialect(Log, "published gt \"2026-01-01\"", false);
        check_dialect(Log, "debugContext.debugData.requestUri co \"a\"", false);
        check_dialect(Log, "debugContext.debugData.requestUri sw \"a\"", true);
    }

    #[test]
    fn batches_of_ids_are_recognized() {
        assert_eq!(parse("id eq \"a\" or id eq \"b\"").unwrap().id_batch(), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(parse("id eq \"a\"").unwrap().id_batch(), Some(vec!["a".to_owned()]));
        assert_eq!(parse("id eq \"a\" or status pr").unwrap().id_batch(), None);
        assert_eq!(parse("id sw \"a\"").unwrap().id_batch(), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }
    }
}
