//! Tables and properties of normalisation; every invariant of the module head is one of them.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(raw: &str, rule: NameRule, expected: &str) {
    assert_eq!(normalize(raw, rule).unwrap().as_str(), expected, "{raw:?} by {rule:?}");
}

#[test]
fn names_are_normalized() {
    use NameRule::{Default, Exact, IgnoreCase};
    check("JDoe@Example.COM", Default, "jdoe@example.com");
    check("JDoe@Example.COM", Exact, "JDoe@Example.COM");
    check("JDoe@Example.COM", IgnoreCase, "jdoe@example.com");
    check("J.Doe+Tag@Example.com", Default, "j.doe+tag@example.com"); // Neither dots nor tags are stripped.
    check("JDoe", Default, "JDoe"); // Opaque.
    check("JDoe", IgnoreCase, "jdoe");
    check(" JDoe ", IgnoreCase, " jdoe ");
    check("J Doe@example.com", Default, "J Doe@example.com"); // A blank: no e-mail.
    check("JDoe@CORP", Default, "JDoe@CORP"); // One label: no e-mail.
    check("JDoe@example.com.", Default, "JDoe@example.com."); // An empty label: no e-mail.
    check("@Example.com", Default, "@Example.com");
    check("JDoe@Exa/mple.com", Default, "JDoe@Exa/mple.com");
    check("A@B@Example.com", Default, "a@b@example.com"); // The last '@' counts.
    check("Jürgen@Bücher.Example", Default, "jürgen@xn--bcher-kva.example");
    check("JU\u{308}RGEN@XN--BCHER-KVA.example", Default, "jürgen@xn--bcher-kva.example");
    check("Straße@straße.example", Default, "strasse@xn--strae-oqa.example"); // A name folds, a domain does not.
    check("ΟΔΥΣΣΕΎΣ@x.example", Default, "οδυσσεύσ@x.example"); // No final sigma.
    check("İ@x.example", Default, "i\u{307}@x.example"); // Not Turkish: a dotted I is not an i.
    check("jdoe@ｅxample。com", Default, "jdoe@example.com"); // One domain for DNS.
    check("ｊdoe@example.com", Default, "ｊdoe@example.com"); // NFKC is no match in a name.
    check("JDoe@xn--ßq.example", Default, "JDoe@xn--ßq.example"); // Must not become the real `xn--ssq`.
    check("JDoe@xn--ß.example", Default, "jdoe@xn--ss.example"); // Neither can be encoded.
    check("\u{212A}9", Default, "\u{212A}9"); // Kelvin sign.
    check("\u{212A}9", IgnoreCase, "k9");
    check("ﬁN", IgnoreCase, "fin");
}

#[test]
fn not_everything_is_an_identifier() {
    #[track_caller]
    fn check(raw: &str, expected: Result<(), IdentifierError>) {
        assert_eq!(Identifier::new(raw).map(|_| ()), expected);
    }
    check("x", Ok(()));
    check(" ", Ok(()));
    check("", Err(IdentifierError::Empty));
    check("a\0b", Err(IdentifierError::Control('\0')));
    check("a\nb", Err(IdentifierError::Control('\n')));
    check("a\u{85}b", Err(IdentifierError::Control('\u{85}')));
    check(&"x".repeat(IDENTIFIER_BYTES_MAX), Ok(()));
    check(&"x".repeat(IDENTIFIER_BYTES_MAX + 1), Err(IdentifierError::TooLong(1025)));
}

#[test]
fn closeness_is_told() {
    use Closeness::{CaseDiffers, Different, Identical, NfkcDiffers, Same};
    #[track_caller]
    fn check(a: &str, b: &str, expected: [Closeness; 3]) {
        let (a, b) = (Identifier::new(a).unwrap(), Identifier::new(b).unwrap());
        // In the order of `NameRule::ALL`: Default, Exact, IgnoreCase.
        assert_eq!(NameRule::ALL.map(|rule| a.compare(b, rule)), expected, "{a:?} {b:?}");
        assert_eq!(NameRule::ALL.map(|rule| b.compare(a, rule)), expected, "{b:?} {a:?}");
    }
    check("jdoe", "jdoe", [Identical; 3]);
    check("jdoe", "JDOE", [CaseDiffers, CaseDiffers, Same]);
    check("jdoe", "jdoe2", [Different; 3]);
    check("jdoe@x.example", "JDOE@x.example", [Same, CaseDiffers, Same]);
    check("jdoe@x.example", "ｊdoe@x.example", [NfkcDiffers; 3]);
    check("jdoe@x.example", "jdoe＠x.example", [NfkcDiffers; 3]); // A full-width '@' makes no e-mail.
    check("jdoe@x.example", "jdoe@x。example", [Same, CaseDiffers, Same]);
    check("a@straße.example", "a@xn--strae-oqa.example", [Same, CaseDiffers, Same]);
    check("a@straße.example", "a@strasse.example", [NfkcDiffers; 3]); // Two domains; worth a warning.
    check("é", "e\u{301}", [CaseDiffers, CaseDiffers, Same]);
    // The iota below folds to a letter: only in the right place if the marks are put in order before.
    check("α\u{345}\u{301}", "α\u{301}\u{345}", [CaseDiffers, CaseDiffers, Same]);
    check("jdoe@x.example", "j.doe@x.example", [Different; 3]);
    check("jdoe@x.example", "jdoe+a@x.example", [Different; 3]);
}

#[test]
fn domains_have_the_limits_of_dns() {
    #[track_caller]
    fn check(domain: &str, expected: bool) {
        assert_eq!(Identifier::new(&format!("a@{domain}")).unwrap().is_email_shaped(), expected);
    }
    let label = "x".repeat(DOMAIN_LABEL_BYTES_MAX);
    check(&format!("{label}.example"), true);
    check(&format!("{label}x.example"), false);
    check(&format!("{label}.{label}.{label}.{}", &label[..61]), true); // 253 bytes.
    check(&format!("{label}.{label}.{label}.{}", &label[..62]), false);
    check("under_score.example", true);
    check("a..example", false);
    check(".example", false);
    check("exa mple.com", false);
    check("exa\u{3000}mple.com", false);
    check("[127.0.0.1]", false);
}

#[test]
fn domains_are_read() {
    assert_eq!(email_domain("a@Bücher.Example").as_deref(), Some("xn--bcher-kva.example"));
    assert_eq!(email_domain("a@EXAMPLE.com").as_deref(), Some("example.com"));
    assert_eq!(email_domain("a@b@Example.com").as_deref(), Some("example.com"));
    assert_eq!(email_domain("example.com"), None);
    assert_eq!(email_domain("a@xn--\u{fffd}.com"), None);
    assert_eq!(domain("Example.COM").as_deref(), Some("example.com"));
    assert_eq!(domain("*.example.com"), None);
    assert_eq!(domain("com"), None);
}

#[test]
fn the_loosest_form_is_what_the_key_hashes() {
    #[track_caller]
    fn check(raw: &str, expected: &str) {
        assert_eq!(loosest(raw), expected);
        assert_eq!(lookup_key(raw), Ok(LookupKey(xxh3_64(expected.as_bytes()))));
    }
    check("JDoe@Example.com", "jdoe@example.com");
    check("ｊdoe＠xn--strae-oqa。example", "jdoe@strasse.example"); // The '@' appears in the first pass only.
    check("JDoe", "jdoe");
    check("℡²", "tel2");
}

/// A change of these numbers is a change of what stores hold: [`NORMALIZE_VERSION`] + 1 and a migration.
#[test]
fn keys_are_pinned() {
    let names = ["jdoe", "JDoe@Example.com", "Jürgen@Bücher.example", "ｊdoe＠x.example", "ﬁ\u{345}\u{301}ŉ"];
    let stored = names.map(|raw| lookup_key(raw).unwrap().to_stored());
    let pinned = [
        7_147_586_489_799_433_718,
        -8_234_158_372_206_276_293,
        2_890_492_756_665_901_968,
        3_722_651_092_629_161_964,
        6_175_579_209_836_732_545,
    ];
    assert_eq!(stored, pinned);
    for key in stored {
        assert_eq!(LookupKey::from_stored(key).to_stored(), key);
    }
    // The loosest form of every single character: Unicode tables of the libraries.
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for c in every_character() {
        hash.update(loosest(&c).as_bytes());
    }
    assert_eq!((NORMALIZE_VERSION, hash.digest()), (1, 11_544_557_104_790_887_604));
}

/// Every character but ideographs, Hangul syllables and private ones: nobody folds them, and there are many.
fn every_character() -> impl Iterator<Item = String> {
    let ranges = [1..=0x33ff_u32, 0xa000..=0xac10, 0xd790..=0xd7ff, 0xf900..=0x16fff, 0x1b000..=0x1ffff];
    let rare = [0x2f800..=0x2fa1f_u32, 0xe0000..=0xe01ef];
    let code_points = ranges.into_iter().chain(rare).flatten();
    code_points.filter_map(char::from_u32).filter(|c| !c.is_control()).map(String::from)
}

#[test]
fn every_character_folds_once() {
    for c in every_character() {
        let folded = canonical_fold(&c).into_owned();
        assert_eq!(canonical_fold(&folded), folded, "{c:?}");
        let key = lookup_key(&c).unwrap();
        assert_eq!(lookup_key(&folded).unwrap(), key, "{c:?}");
        let compatible = ComposingNormalizer::new_nfkc().normalize(&c).into_owned();
        assert_eq!(lookup_key(&compatible).unwrap(), key, "{c:?}");
    }
}

/// What has ever gone wrong in folding, next to each other.
const PIECES: &str = "a A s S k i I 1 @ . - xn-- XN-- ss strae-oqa bcher-kva ß ẞ ſ ﬁ fi ŉ ı İ \u{307} \u{301} \u{308} \
    \u{345} \u{323} é e ü σ ς Σ ΐ ᾳ ᾼ \u{212A} \u{2126} ａ ＠ 。 ． \u{ad} \u{200d} \u{200c} א ب 가 \
    \u{1100} \u{1161} Ꭰ ꭰ ｶ ﾞ \u{fffd} ² ℡ @x.example _";

fn name() -> impl Strategy<Value = String> {
    let pieces: Vec<&str> = PIECES.split(' ').chain([" ", "\u{3000}"]).collect();
    prop::collection::vec(prop::sample::select(pieces), 1..9).prop_map(|pieces| pieces.concat())
}

/// Another spelling of a name, mostly an equal one.
fn respell(raw: &str, how: u8) -> String {
    let local_and_domain = raw.rsplit_once('@');
    match (how, local_and_domain) {
        (0, _) => raw.to_uppercase(),
        (1, _) => raw.to_lowercase(),
        (2, _) => DecomposingNormalizer::new_nfd().normalize(raw).into_owned(),
        (3, _) => ComposingNormalizer::new_nfc().normalize(raw).into_owned(),
        (4, _) => ComposingNormalizer::new_nfkc().normalize(raw).into_owned(),
        (5, _) => CaseMapper::new().fold_string(raw).into_owned(),
        (6, Some((local, domain))) => {
            format!("{local}@{}", idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.into()))
        }
        (7, Some((local, domain))) => format!("{local}@{}", idna::domain_to_unicode(domain).0),
        _ => raw.into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn normalizing_is_idempotent(raw in name()) {
        for rule in NameRule::ALL {
            let once = normalize(&raw, rule).unwrap();
            prop_assert_eq!(normalize(once.as_str(), rule), Ok(once.clone()), "{:?}", rule);
            prop_assert_eq!(lookup_key(once.as_str()), lookup_key(&raw));
        }
    }

    #[test]
    fn equal_names_share_a_key(a in name(), how in prop::collection::vec(0u8..8, 1..4), other in name()) {
        let respelt = how.iter().fold(a.clone(), |name, how| respell(&name, *how));
        for b in [&respelt, &other] {
            let (Ok(a), Ok(b)) = (Identifier::new(&a), Identifier::new(b)) else { continue };
            for rule in NameRule::ALL {
                let closeness = a.compare(b, rule);
                prop_assert_eq!(closeness, b.compare(a, rule));
                prop_assert_eq!(closeness <= Closeness::Same, a.normalize(rule) == b.normalize(rule));
                if closeness <= Closeness::Same {
                    prop_assert_eq!(a.is_email_shaped(), b.is_email_shaped());
                }
                if closeness < Closeness::Different {
                    prop_assert_eq!(a.lookup_key(), b.lookup_key(), "{:?} {:?}", rule, closeness);
                }
            }
        }
    }

    #[test]
    fn the_fast_path_is_no_shortcut(raw in "[ -~]{1,12}|[a-zA-Z]{1,3}@[a-zA-Z-]{1,3}[.][a-zA-Z]{1,3}") {
        let key = LookupKey(xxh3_64(loosen(&loosen(&raw)).as_bytes()));
        prop_assert_eq!(lookup_key(&raw), Ok(key));
    }

    #[test]
    fn anything_is_taken(raw in any::<String>()) {
        if let Ok(identifier) = Identifier::new(&raw) {
            identifier.lookup_key();
            identifier.normalize(NameRule::IgnoreCase);
        }
        email_domain(&raw);
        domain(&raw);
    }
}
