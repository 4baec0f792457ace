//! Looks for pieces of secrets in whatever form they may come out. Entry point: [`Search`].

use std::collections::HashSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Bytes of the smallest piece that counts: long enough not to be chance.
const PIECE: usize = 12;

/// Different bytes that a piece has at least: rows of the same byte are everywhere.
const DIFFERENT_MIN: u32 = 6;

/// Knows all pieces of some secrets.
pub(crate) struct Search {
    pieces: HashSet<[u8; PIECE]>,
    /// Whether a piece may begin with these eight bytes, by their hash: most places are told apart by it alone.
    begins: Vec<bool>,
}

const BEGINS: usize = 1 << 22;

fn begin_of(piece: &[u8]) -> usize {
    let head = u64::from_le_bytes(piece[..8].try_into().unwrap());
    usize::try_from(head.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 42).unwrap()
}

fn is_telling(piece: &[u8]) -> bool {
    let mut seen = [0_u64; 4];
    piece.iter().for_each(|byte| seen[usize::from(byte >> 6)] |= 1 << (byte & 63));
    seen.iter().map(|bits| bits.count_ones()).sum::<u32>() >= DIFFERENT_MIN
}

impl Search {
    pub(crate) fn new(secrets: &[Vec<u8>]) -> Self {
        let (mut pieces, mut begins) = (HashSet::new(), vec![false; BEGINS]);
        for form in secrets.iter().flat_map(|secret| forms(secret)) {
            for piece in form.windows(PIECE) {
                if is_telling(piece) {
                    begins[begin_of(piece)] = true;
                    pieces.insert(piece.try_into().unwrap());
                }
            }
        }
        assert!(!pieces.is_empty());
        Self { pieces, begins }
    }

    /// Where the first piece stands.
    pub(crate) fn find(&self, text: &[u8]) -> Option<usize> {
        text.windows(PIECE).position(|piece| self.begins[begin_of(piece)] && self.pieces.contains(piece))
    }
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// As it is; as base64 of both alphabets, wherever it begins in it; as hexadecimal and percent encoding, in both cases; as
/// a list of numbers.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.to_vec()];
    for skipped in 0..3 {
        let whole = &secret[skipped.min(secret.len())..];
        // Of the last group only whole letters are the secret's own.
        let whole = &whole[..whole.len() / 3 * 3];
        forms.push(STANDARD.encode(whole).into_bytes());
        forms.push(URL_SAFE_NO_PAD.encode(whole).into_bytes());
    }
    let each = |write: fn(&mut String, u8)| {
        let mut text = String::new();
        secret.iter().for_each(|byte| write(&mut text, *byte));
        text.into_bytes()
    };
    forms.push(each(|text, byte| write!(text, "{byte:02x}").unwrap()));
    forms.push(each(|text, byte| write!(text, "{byte:02X}").unwrap()));
    forms.push(each(|text, byte| write!(text, "%{byte:02x}").unwrap()));
    forms.push(each(|text, byte| write!(text, "%{byte:02X}").unwrap()));
    forms.push(each(|text, byte| write!(text, "{byte}, ").unwrap()));
    forms
}

/// What of a PEM file is secret: its text without lines, and the numbers in it. What stands before them is the same in every
/// key of the kind.
pub(crate) fn key_material(pem: &str) -> Vec<Vec<u8>> {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(&text).unwrap();
    // PKCS#8 of RSA: about 40 bytes of heads, then the public modulus; behind it and the exponent what is private.
    let private = &der[40 + 256..];
    vec![text.as_bytes()[400..].to_vec(), private.to_vec()]
}

/// The private number of a PKCS#8 key on P-256, which stands behind 36 bytes of heads; the public point follows it.
pub(crate) fn p256_key_material(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(&text).unwrap()[36..68].to_vec()
}

/// Pieces of every form are found amid other things, and nothing is found where there is none.
#[test]
fn the_search_finds_every_form_of_every_piece() {
    let secret = b"00CanaryTokenNeverShown-abcdefghijklmnop_42".to_vec();
    let search = Search::new(std::slice::from_ref(&secret));
    let noise = |seed: u64, count: usize| {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| random.u8(32..127)).collect::<Vec<u8>>()
    };
    assert_eq!(search.find(&noise(1, 1_000_000)), None);
    for form in forms(&secret) {
        for (number, piece) in form.windows(PIECE).enumerate() {
            if !is_telling(piece) {
                continue;
            }
            let number = number as u64;
            let text = [noise(number, 500), piece.to_vec(), noise(number + 1, 500)].concat();
            assert!(
                search.find(&text).is_some_and(|place| place.abs_diff(500) <= 1),
                "{}",
                String::from_utf8_lossy(&text)
            );
        }
    }
    // Within a longer text, which is encoded as a whole.
    for before in ["", "S", "SS", "SSWS "] {
        let header = [before.as_bytes(), &secret].concat();
        assert!(search.find(STANDARD.encode(&header).as_bytes()).is_some());
        assert!(search.find(format!("{header:?}").as_bytes()).is_some());
        assert!(search.find(url::form_urlencoded::byte_serialize(&header).collect::<String>().as_bytes()).is_some());
    }
    assert_eq!(search.find(b"00CanaryTok|enNeverShow|n-abcdefgh"), None, "shorter pieces are none");
}

#[test]
fn keys_are_found_as_text_and_as_numbers() {
    let pem = include_str!("../keys/rsa-pkcs8.pem");
    let search = Search::new(&key_material(pem));
    let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    // The first lines are what is public of it.
    for line in &lines[7..] {
        assert!(search.find(format!("key: {line}").as_bytes()).is_some(), "{line}");
    }
    let der = STANDARD.decode(lines.concat()).unwrap();
    for piece in der[300..].chunks(40).filter(|piece| piece.len() == 40) {
        assert!(search.find(format!("{piece:?}").as_bytes()).is_some());
        let hex: String = piece.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        assert!(search.find(hex.as_bytes()).is_some());
    }
    assert_eq!(search.find(&der[..38]), None, "what all keys have");
}
