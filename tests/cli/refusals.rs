//! Help, and what is refused before any store or network is touched.

use super::harness::{CANARY, Place};

#[test]
fn a_wrong_command_line_ends_with_2() {
    #[track_caller]
    fn check(line: &str, err_part: &str) {
        let ran = Place::with_org().run(&line.split(' ').collect::<Vec<_>>());
        ran.assert(2, "", err_part);
        assert!(ran.out.is_empty(), "{ran:?}");
    }
    check("frobnicate", "unrecognized subcommand");
    check("resolve jira", "required arguments");
    check("app users jira --limit 0", "0 is not in 1..");
    check("user in ada --app a --group b", "cannot be used with");
    check("status --output xml", "invalid value 'xml'");
    check("status --direct --server http://127.0.0.1:9", "cannot be used with");
    check("user show ada --org acme --org acme", "give --org once");
    check("config --output json", "TOML only");
    check("watch --output csv", "--output table or jsonl");
    check("watch --direct", "only a running server can be watched");
    check("trigger users --direct", "what reads from Okta is a running server");
    check("search ada -o parquet", "only an export can be --output parquet");
    check("man --dir no/such", "is no directory");
    check("watch --kinds users", "invalid value 'users'");
    check("release nothing", "is no hold");
    check("release FAILED:users", "is no hold");
}

#[test]
fn a_wrong_configuration_ends_with_2_and_all_problems() {
    let place = Place::with_config("[crawl]\nintervall = \"6h\"\nusers_page_size = 0\n[log]\nlevel = \"loud\"\n");
    for command in ["config", "status", "sync", "check"] {
        let ran = place.run(&[command]);
        ran.assert(2, "", "intervall");
        assert!(ran.err.contains("users_page_size") && ran.err.contains("loud"), "{ran:?}");
        assert!(ran.err.starts_with("error: the configuration has several problems:\n"), "{ran:?}");
    }
    Place::empty().run(&["sync"]).assert(2, "", "no org configured: set OKTA_IDMAP_DOMAIN");
    Place::empty().run(&["status", "--direct"]).assert(2, "", "no org configured");
    Place::empty().run(&["config", "--config", "nowhere.toml"]).assert(2, "", "nowhere.toml");
    Place::empty().run(&["status", "--server", "http://example.com:1"]).assert(2, "", "loopback");
}

#[test]
fn files_that_are_not_there_are_problems_of_the_configuration() {
    let all = [
        "server.tls_cert_file: read no-cert.pem (put the file there, or correct the path): ",
        "server.tls_key_file: read no-key.pem ",
        "server.access_file: read no-access.toml ",
        "client.token_file: read no-token ",
        "client.ca_file: read no-ca.pem ",
    ];
    let place = Place::with_config(
        "[server]\ntls_cert_file = \"no-cert.pem\"\ntls_key_file = \"no-key.pem\"\naccess_file = \"no-access.toml\"\n\
         [client]\nserver = \"https://idmap.example.com:8450\"\ntoken_file = \"no-token\"\nca_file = \"no-ca.pem\"\n",
    );
    let ran = place.run(&["config"]);
    ran.assert(2, "", "error: the configuration has several problems:\n  server.tls_cert_file");
    assert!(ran.out.is_empty(), "{ran:?}");
    for problem in all {
        assert!(ran.err.contains(problem), "{problem:?} in {ran:?}");
    }
    // What is in them is looked at where they are used.
    for name in ["no-cert.pem", "no-key.pem", "no-access.toml", "no-token", "no-ca.pem"] {
        std::fs::write(place.path().join(name), "").unwrap();
    }
    place.run(&["config"]).assert(0, "tls_cert_file = \"no-cert.pem\"", "");
    std::fs::remove_file(place.path().join("no-ca.pem")).unwrap();
    place.run(&["config"]).assert(2, "", "error: client.ca_file: read no-ca.pem (put the file there");
}

#[test]
fn an_org_must_be_configured() {
    let place = Place::with_org();
    for command in ["sync", "serve", "check"] {
        place.run(&[command, "--org", "acmee"]).assert(2, "", "did you mean acme?");
    }
    place.run(&["user", "show", "ada", "--direct", "--org", "acmee"]).assert(2, "", "did you mean acme?");
    let mut two = Place::with_org();
    two.set("OKTA_IDMAP_ORGS__OTHER__DOMAIN", "http://127.0.0.1:10");
    two.set("OKTA_IDMAP_ORGS__OTHER__API_TOKEN", CANARY);
    two.run(&["user", "show", "ada", "--direct"]).assert(2, "", "name one with --org: acme, other");
}

#[test]
fn without_a_store_the_message_says_what_to_run() {
    let place = Place::with_org();
    for line in [&["user", "show", "ada"][..], &["resolve", "jira", "ada"], &["status"], &["search", "ada"]] {
        let line: Vec<&str> = line.iter().copied().chain(["--direct"]).collect();
        place.run(&line).assert(1, "", "there is no store in ./okta-idmap-data/acme yet; run `okta-idmap sync` first");
    }
}

#[test]
fn a_server_that_is_asked_for_must_answer() {
    let ran = Place::with_org().run(&["status", "--server", "http://127.0.0.1:9"]);
    ran.assert(1, "", "no okta-idmap server answers at http://127.0.0.1:9");
}

#[test]
fn something_else_on_the_port_is_no_server() {
    // It takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let mut place = Place::with_org();
    // Where our own server would listen.
    place.set("OKTA_IDMAP_SERVER__LISTEN", &address.to_string());
    super::store::fill(place.path());
    place.run(&["user", "show", "grace"]).assert(0, "00u2", "");
    let ran = place.run(&["user", "show", "grace", "--server", &format!("http://{address}")]);
    ran.assert(1, "", "no okta-idmap server answers");
}

/// What the data directory says may be of another org or day, and what is written there does not reach the server.
#[test]
fn a_server_that_is_configured_is_not_replaced() {
    let mut place = Place::with_org();
    super::store::fill(place.path());
    place.set("OKTA_IDMAP_CLIENT__SERVER", "http://127.0.0.1:9");
    let set = &["override", "set", "jira", "x", "grace", "--for", "1d", "--reason", "test"][..];
    for line in [
        set,
        &["override", "delete", "jira", "x"],
        &["reindex"],
        &["user", "show", "grace"],
        &["watch", "--after", "0", "--once"],
    ] {
        place.run(line).assert(1, "", "no okta-idmap server answers at http://127.0.0.1:9");
    }
    place.run(&["user", "show", "grace", "--direct"]).assert(0, "00u2", "");
    place.run(&["override", "list", "--direct"]).assert(0, "", "");
    // Nor is it said that an org is missing where the server is all that is configured.
    let mut place = Place::empty();
    place.set("OKTA_IDMAP_CLIENT__SERVER", "https://127.0.0.1:9");
    place.run(&["user", "show", "grace"]).assert(1, "", "no okta-idmap server answers at https://127.0.0.1:9");
}

/// It came with an archive, or with a directory of somebody else.
#[test]
fn a_file_that_nobody_names_does_not_say_where_a_credential_goes() {
    let mut place = Place::with_config("orgs.default.domain = \"http://127.0.0.1:9\"\n");
    place.set("OKTA_IDMAP_API_TOKEN", super::harness::CANARY);
    for line in [&["check"][..], &["sync"], &["serve"], &["config"]] {
        place.run(line).assert(
            2,
            "",
            "./okta-idmap.toml:1:14: orgs.default.domain: is of a file that nobody has named",
        );
    }
    place.run(&["config", "--config", "okta-idmap.toml"]).assert(0, "domain = \"http://127.0.0.1:9\"", "");
}

#[test]
fn the_configuration_is_shown_without_secrets() {
    let ran = Place::with_org().run(&["config"]);
    ran.assert(0, "[orgs.acme]", "");
    assert!(ran.out.contains("api_token = \"***\" # environment OKTA_IDMAP_ORGS__ACME__API_TOKEN"), "{ran:?}");
    Place::empty().run(&["config"]).assert(0, "data_dir", "no org is configured");
    let quiet = Place::empty().run(&["config", "--quiet"]);
    assert_eq!(quiet.err, "");
}

#[test]
fn an_unreachable_org_is_told_and_not_crawled() {
    let ran = Place::with_org().run(&["check"]);
    ran.assert(1, "to do  check the org's address", "");
    assert!(ran.out.contains("not_asked"), "{ran:?}");
}
