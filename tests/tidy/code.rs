//! Rust text reduced to what rules look at: code without comments and literals, and the paths that it names.
//!
//! Entry points: [`code_only`], [`without_tests`], [`paths`]. All three keep the line numbers. This is no parser: it knows
//! as much of the language as `rustfmt` leaves.

/// The text with every comment and literal blanked.
pub(crate) fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut blanked = chars.clone();
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment_end(&chars, at);
        for place in blanked.iter_mut().take(end).skip(at) {
            if *place != '\n' {
                *place = ' ';
            }
        }
        at = end.max(at + 1);
    }
    blanked.into_iter().collect()
}

/// End of the comment or literal that begins at `at`, or `at` itself when none does.
fn literal_or_comment_end(chars: &[char], at: usize) -> usize {
    let get = |place: usize| chars.get(place).copied().unwrap_or('\0');
    let find = |from: usize, what: &[char]| {
        let found = (from..chars.len()).find(|place| chars[*place..].starts_with(what));
        found.map_or(chars.len(), |place| place + what.len())
    };
    match (get(at), get(at + 1)) {
        ('/', '/') => (at..chars.len()).find(|place| chars[*place] == '\n').unwrap_or(chars.len()),
        ('/', '*') => block_comment_end(chars, at),
        ('r', '"' | '#') if at == 0 || !is_word(get(at - 1)) || matches!(get(at - 1), 'b' | 'c') => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            if get(at + 1 + hashes) != '"' {
                return at;
            }
            let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            find(at + 2 + hashes, &close)
        }
        ('"', _) => {
            let mut place = at + 1;
            while place < chars.len() && chars[place] != '"' {
                place += if chars[place] == '\\' { 2 } else { 1 };
            }
            (place + 1).min(chars.len())
        }
        ('\'', '\\') => find(at + 3, &['\'']),
        ('\'', _) if get(at + 2) == '\'' => at + 3,
        _ => at,
    }
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut place) = (0_usize, at);
    while place < chars.len() {
        match &chars[place..] {
            ['/', '*', ..] => (depth, place) = (depth + 1, place + 2),
            ['*', '/', ..] if depth == 1 => return place + 2,
            ['*', '/', ..] => (depth, place) = (depth - 1, place + 2),
            _ => place += 1,
        }
    }
    chars.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Code (see [`code_only`]) with everything under `#[cfg(test)]` blanked as well.
pub(crate) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        kept.push_str(&rest[..at]);
        let end = at + item_end(&rest[at..]);
        kept.extend(rest[at..end].chars().filter(|c| *c == '\n'));
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

/// End of the first item: its `;` outside of all brackets, or the brace that closes its body.
fn item_end(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// A path such as `std::fs::read`, and the number of its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) line: usize,
    pub(crate) text: String,
}

enum Token {
    Word(String, usize),
    Sep,
    Mark(char),
}

/// All paths that the code names, those of a `use` with braces one by one.
pub(crate) fn paths(code: &str) -> Vec<Path> {
    let tokens = tokens(code);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        match tokens[at] {
            Token::Word(..) => at = tree(&tokens, at, "", &mut found),
            _ => at += 1,
        }
    }
    found
}

/// Reads one path from `at`, with the braces that follow it; returns where it ends.
fn tree(tokens: &[Token], mut at: usize, prefix: &str, found: &mut Vec<Path>) -> usize {
    let mut text = prefix.to_owned();
    let mut line = 0;
    while let Some(Token::Word(word, at_line)) = tokens.get(at) {
        text.push_str(word);
        line = *at_line;
        match (tokens.get(at + 1), tokens.get(at + 2)) {
            (Some(Token::Sep), Some(Token::Word(..))) => (text, at) = (text + "::", at + 2),
            (Some(Token::Sep), Some(Token::Mark('{'))) => return group(tokens, at + 3, &(text + "::"), found),
            _ => {
                at += 1;
                break;
            }
        }
    }
    found.push(Path { line, text });
    at
}

fn group(tokens: &[Token], mut at: usize, prefix: &str, found: &mut Vec<Path>) -> usize {
    loop {
        match tokens.get(at) {
            Some(Token::Word(word, _)) if word == "as" => at += 2,
            Some(Token::Word(..)) => at = tree(tokens, at, prefix, found),
            Some(Token::Mark('}')) => return at + 1,
            Some(_) => at += 1,
            None => return at,
        }
    }
}

fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, line) in (1..).zip(code.lines()) {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..length].to_owned(), number));
                length
            } else if rest.starts_with("::") {
                tokens.push(Token::Sep);
                2
            } else {
                tokens.push(Token::Mark(first));
                first.len_utf8()
            };
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

#[test]
fn comments_and_literals_are_blank() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let code = code_only(text);
        assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected);
        assert_eq!(code.lines().count(), text.lines().count());
    }
    check("a(); // b()\nc();", "a(); c();");
    check("a /* b /* c */ d */ e", "a e");
    check("a(\"b\\\" // c\", 'd', '\\'', '\"') + e", "a( , , , ) + e");
    check("fn a<'b>(c: &'b str) {}", "fn a<'b>(c: &'b str) {}");
    check("r#\"a \" b\"# + br\"c\" + r#type + var\"x\"", "+ b + r#type + var");
    check("\"open", "");
}

#[test]
fn tests_are_blank() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(without_tests(text).split_whitespace().collect::<Vec<_>>().join(" "), expected);
    }
    check("a\n#[cfg(test)]\nmod tests;\nb", "a b");
    check("a\n#[cfg(test)]\n#[path]\nmod tests { x { y } z }\nb", "a b");
    check("#[cfg(test)]\nfn f(a: [u8; 3]) -> u8 { a[0] }\nb", "b");
    check("a #[cfg(test)] mod t {", "a");
}

#[test]
fn paths_are_expanded() {
    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found = paths(text);
        assert_eq!(found.iter().map(|path| path.text.as_str()).collect::<Vec<_>>(), expected);
    }
    check("use std::{fs, net::{TcpStream as T, *}, io};", &["use", "std::fs", "std::net::TcpStream", "std::io"]);
    check("let a = ::std::fs::read(b::<C>(d))", &["let", "a", "std::fs::read", "b", "C", "d"]);
    check("use a::b::{self, c};", &["use", "a::b::self", "a::b::c"]);
    check("use a::{", &["use"]);
    assert_eq!(paths("\n\nx::y")[0].line, 3);
}
