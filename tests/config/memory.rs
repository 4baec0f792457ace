//! Nothing of a secret stays in memory when the configuration is gone: neither of a file, nor of a variable, nor of what
//! was read on the way; the text of a private key and the bytes that it means not even while the key is in use. Looks through the memory
//! of this very process.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use okta_idmap::config::load_from_process;

use super::*;

/// The secrets stand nowhere in this program as they are: each byte is changed by this one.
const VEIL: u8 = 0x5a;

/// Where the end of a secret begins that is looked for.
const TAIL: usize = 20;

/// A text of 40 letters for each number, veiled.
fn veiled(number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    (0..40).map(|_| random.alphanumeric() as u8 ^ VEIL).collect()
}

/// The secret itself; the caller sees to it that it goes.
fn secret(number: u64) -> Vec<u8> {
    veiled(number).iter().map(|byte| byte ^ VEIL).collect()
}

/// How many copies of each secret's end are in the memory of this process. Where memory is free, the beginning is written
/// over by whoever keeps the books.
fn copies(numbers: &[u64]) -> Vec<usize> {
    let wanted: Vec<Vec<u8>> = numbers.iter().map(|number| veiled(*number)[TAIL..].to_vec()).collect();
    copies_of(&wanted)
}

/// How many copies of each of these are in the memory of this process. They are veiled, so that the search does not find itself.
fn copies_of(wanted: &[Vec<u8>]) -> Vec<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = File::open("/proc/self/mem").unwrap();
    let mut counts = vec![0; wanted.len()];
    let mut buffer = vec![0; 1 << 20];
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (mut at, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        while at < end {
            let length = usize::try_from(end - at).unwrap().min(buffer.len());
            let Ok(read) = memory.read_at(&mut buffer[..length], at) else { break };
            for (count, wanted) in counts.iter_mut().zip(wanted) {
                let begins = memchr::memchr_iter(wanted[0] ^ VEIL, &buffer[..read]);
                *count += begins
                    .filter(|begin| {
                        let here = buffer[*begin..read].iter().zip(wanted).all(|(byte, wanted)| byte ^ VEIL == *wanted);
                        here && read - begin >= wanted.len()
                    })
                    .count();
            }
            at += u64::try_from(read.max(1)).unwrap();
        }
    }
    // Where the buffer itself was read it may have shown what it held before.
    buffer.fill(0);
    counts
}

#[test]
fn no_copy_of_a_secret_stays_behind() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, before: &str, number: u64, after: &str| {
        let mut text = Vec::with_capacity(64 << 10);
        text.extend_from_slice(before.as_bytes());
        let mut secret = secret(number);
        text.extend_from_slice(&secret);
        text.extend_from_slice(after.as_bytes());
        std::fs::write(dir.path().join(name), &text).unwrap();
        text.fill(0);
        secret.fill(0);
        std::hint::black_box((&text, &secret));
        dir.path().join(name)
    };
    // In a file of its own, in the configuration file, and in a variable.
    let token = write("token", "", 1, "\n");
    let place = format!("[orgs.a]\ndomain = 'a.okta.com'\napi_token_file = '{}'\n", token.display());
    // Far from the ends of what is read: there the memory is soon used again, and a copy would be gone by chance.
    let filler = "# filler\n".repeat(2_000);
    let place = format!("{filler}{place}");
    let config =
        write("config", &format!("{place}[orgs.b]\ndomain = 'b.okta.com'\napi_token = '"), 2, &format!("'\n{filler}"));
    let (loaded, _) = load_from_process(Flags { config: Some(config), ..Flags::default() }).unwrap();
    let env = [
        ("OKTA_IDMAP_DOMAIN", "c.okta.com".to_owned()),
        ("OKTA_IDMAP_API_TOKEN", String::from_utf8(secret(3)).unwrap()),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value));
    let (from_env, _) = load(Sources { file: None, env, flags: Flags::default() }, &read_secret).unwrap();
    let settings: Vec<OrgSettings> = loaded
        .orgs
        .values()
        .map(|org| OrgSettings::from_config(&loaded, org).unwrap())
        .chain(from_env.orgs.values().map(|org| OrgSettings::from_config(&from_env, org).unwrap()))
        .collect();
    let clients: Vec<_> = settings
        .iter()
        .map(|settings| okta_idmap::engine::org::client(settings, Default::default()).unwrap())
        .collect();
    // The search finds what is there: in the configuration, in the settings, in the client. It may find more, where it reads
    // what it has just read.
    let there = copies(&[1, 2, 3]);
    assert!(there.iter().all(|count| *count >= 3), "{there:?}");
    drop((loaded, from_env, settings, clients));
    assert_eq!(copies(&[1, 2, 3]), [0, 0, 0]);
}

/// Letters of a key's text that are looked for, and the bytes that they mean.
const LETTERS: usize = 24;

/// A veiled piece of a private number: as it stands in the text behind `before`, `skip` letters further, and as bytes.
fn pieces(text: &[u8], before: &[u8], skip: usize) -> [Vec<u8>; 2] {
    let begin = memchr::memmem::find(text, before).unwrap() + before.len() + skip;
    let letters = &text[begin..begin + LETTERS];
    let mut bytes = Vec::with_capacity(LETTERS);
    for four in letters.chunks_exact(4) {
        let number = four.iter().fold(0_u32, |number, letter| {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => panic!("no letter of base64"),
            };
            number << 6 | u32::from(value)
        });
        bytes.extend_from_slice(&number.to_be_bytes()[1..]);
    }
    let veiled = [letters, &bytes].map(|piece| piece.iter().map(|byte| byte ^ VEIL).collect());
    bytes.fill(0);
    std::hint::black_box(&bytes);
    veiled
}

#[test]
fn the_text_of_a_private_key_is_gone_before_it_is_used() {
    // Where in the text a private number is: behind what, and how many letters further.
    let keys = [
        ("rsa-pkcs8.pem", "\n", 65 * 16),
        ("rsa-pkcs1.pem", "\n", 65 * 10),
        ("rsa.jwk.json", "\"d\": \"", 0),
        ("p256-pkcs8.pem", "\n", 65),
        ("p521.jwk.json", "\"d\": \"", 8),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (name, before, skip) in keys {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name);
        let mut text = std::fs::read(&path).unwrap();
        let mut wanted = pieces(&text, before.as_bytes(), skip).to_vec();
        // The cryptographic library leaves the number of an EC key on the stack, where it is soon written over.
        wanted.truncate(if name.starts_with('p') { 1 } else { 2 });
        let none = vec![0; wanted.len()];
        // The search finds what is there.
        assert!(copies_of(&wanted)[0] >= 1, "{name}");
        let org = "[orgs.a]\ndomain = 'a.okta.com'\nclient_id = '0oa1'\nkey_id = 'k'\n";
        let in_file = dir.path().join("file");
        std::fs::write(&in_file, format!("{org}private_key_file = '{}'\n", path.display())).unwrap();
        // In the configuration file. Not with escapes: the TOML parser puts such a text together in memory that it gives back
        // as it is.
        let mut configs = vec![in_file];
        for quote in ["'''", "\"\"\""] {
            let inline = dir.path().join(format!("inline-{}", configs.len()));
            let mut content = Vec::with_capacity(64 << 10);
            content.extend_from_slice(format!("{org}private_key = {quote}").as_bytes());
            content.extend_from_slice(&text);
            content.extend_from_slice(quote.as_bytes());
            std::fs::write(&inline, &content).unwrap();
            content.fill(0);
            std::hint::black_box(&content);
            configs.push(inline);
        }
        let env = [
            ("OKTA_IDMAP_DOMAIN", "b.okta.com".to_owned()),
            ("OKTA_IDMAP_CLIENT_ID", "0oa1".to_owned()),
            ("OKTA_IDMAP_KEY_ID", "k".to_owned()),
            ("OKTA_IDMAP_PRIVATE_KEY", String::from_utf8(text.clone()).unwrap()),
        ];
        text.fill(0);
        std::hint::black_box(&text);
        let env = env.map(|(name, value)| (name.to_owned(), value));
        let (from_env, _) = load(Sources { file: None, env, flags: Flags::default() }, &read_secret).unwrap();
        assert_eq!(copies_of(&wanted), none, "{name} in a variable, in use");
        drop(from_env);
        for config in &configs {
            let (loaded, _) = load_from_process(Flags { config: Some(config.clone()), ..Flags::default() }).unwrap();
            assert_eq!(copies_of(&wanted), none, "{name} by {}, in use", config.display());
            let settings = OrgSettings::from_config(&loaded, &loaded.orgs["a"]).unwrap();
            let client = okta_idmap::engine::org::client(&settings, Default::default()).unwrap();
            drop((loaded, settings, client));
            assert_eq!(copies_of(&wanted), none, "{name} by {}, afterwards", config.display());
        }
    }
}
