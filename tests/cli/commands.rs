//! The commands as a whole: help, completions, manual pages, and that every rpc has a command.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use okta_idmap_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::harness::Place;
use super::live::world;
use super::store;

/// Every command that is no group of others, as its own help names it.
fn commands(place: &Place) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![String::new()];
    while let Some(command) = left.pop() {
        let line: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let ran = place.run(&line);
        ran.assert(0, "Usage: okta-idmap", "");
        assert!(
            ran.out.contains("\nExamples:\n  okta-idmap ") || ran.out.contains("\nExamples:\n  (umask"),
            "{command}"
        );
        let list = ran.out.split("\nCommands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
        let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        left.extend(names.filter_map(|line| Some(format!("{command} {}", line.split_whitespace().next()?))));
        found.push(command.trim().to_owned());
    }
    found
}

#[test]
fn shells_and_man_know_every_command() {
    let place = Place::empty();
    let commands = commands(&place);
    assert!(commands.len() > 35, "{commands:?}");
    place.run(&["--help"]).assert(0, "Exit codes: 0 done", "");
    place.run(&["--version"]).assert(0, concat!("okta-idmap ", env!("CARGO_PKG_VERSION")), "");

    let words: BTreeSet<&str> =
        commands.iter().flat_map(|command| command.split(' ')).filter(|word| !word.is_empty()).collect();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = place.run(&["completions", shell]);
        ran.assert(0, "granting-only", "");
        for word in &words {
            assert!(ran.out.contains(word), "{shell}: {word}");
        }
        check_syntax(shell, &ran.out);
    }

    let page = place.run(&["man"]);
    page.assert(0, ".TH okta-idmap 1", "");
    assert!(page.out.contains("okta\\-idmap resolve jira jdoe"), "{page:?}");
    let dir = place.path().join("man1");
    std::fs::create_dir(&dir).unwrap();
    place.run(&["man", "--dir", "man1"]).assert(0, "", " pages in man1");
    for command in &commands {
        let name = ["okta-idmap"].into_iter().chain(command.split_whitespace()).collect::<Vec<_>>().join("-");
        let page =
            std::fs::read_to_string(dir.join(format!("{name}.1"))).unwrap_or_else(|error| panic!("{name}: {error}"));
        let head = format!(".TH {name} 1 \"\" \"okta-idmap {}\" \n", env!("CARGO_PKG_VERSION"));
        assert!(page.contains(&head) && page.contains("Examples:"), "{name}: {page}");
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), commands.len());
}

/// Has the shell read the script without running it, where there is such a shell.
fn check_syntax(shell: &str, script: &str) {
    let flag = match shell {
        "bash" | "zsh" => "-n",
        "fish" => "--no-execute",
        _ => return,
    };
    let Ok(mut child) = Command::new(shell).arg(flag).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn() else {
        return;
    };
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{shell}: {}", String::from_utf8_lossy(&ended.stderr));
}

/// What bash completes the last of these words to, by the script; `None` where there is no bash.
fn completed(script: &str, words: &[&str]) -> Option<Vec<String>> {
    // As bash itself calls it: whatever `complete` has made known, with the command, the word and the one before it.
    const CALL: &str = r#"source /dev/stdin
        function=$(complete -p okta-idmap | sed -e 's/.*-F //' -e 's/ .*//')
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "$function" okta-idmap "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>/dev/null
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", CALL, "bash"]).args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = bash.spawn().ok()?;
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    Some(String::from_utf8(ended.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[test]
fn bash_completes_what_is_behind_a_command() {
    let script = Place::empty().run(&["completions", "bash"]).out;
    #[track_caller]
    fn check(script: &str, line: &str, expected: &[&str]) {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(found) = completed(script, &words) else { return };
        for word in expected {
            assert!(found.iter().any(|found| found == word), "{line:?}: no {word} in {found:?}");
        }
    }
    check(&script, "okta-idmap over", &["override"]);
    check(&script, "okta-idmap user ", &["show", "accounts", "groups", "principals", "in"]);
    check(&script, "okta-idmap user pr", &["principals"]);
    check(&script, "okta-idmap override set --ki", &["--kind"]);
    check(&script, "okta-idmap export --kinds ", &["user", "group", "app", "app-user", "group-member", "app-group"]);
    check(&script, "okta-idmap app users jira --lim", &["--limit"]);
    check(&script, "okta-idmap config token --ro", &["--role"]);
}

/// A command for each rpc. A new rpc has no line here, and fails until it has a command.
const COMMANDS: [(&str, &str); 29] = [
    ("Lookup.ResolveAccount", "resolve jira ada"),
    ("Lookup.BatchResolve", "resolve jira --from names.txt"),
    ("Lookup.ResolveAcl", "acl jira --account ada"),
    ("Lookup.ExpandUser", "user principals 00u1"),
    ("Lookup.GetUser", "user show 00u1"),
    ("Lookup.ListUserAccounts", "user accounts 00u1"),
    ("Lookup.ListUserGroups", "user groups 00u1"),
    ("Lookup.CheckAppMembership", "user in 00u1 --app 0oa1"),
    ("Lookup.ListApps", "app list"),
    ("Lookup.ListAppUsers", "app users 0oa1"),
    ("Lookup.ListAppGroups", "app groups 0oa1"),
    ("Lookup.ListGroups", "group list"),
    ("Lookup.ListGroupMembers", "group members 00g1"),
    ("Lookup.Explain", "explain account jira ada"),
    ("Search.Search", "search ada"),
    ("Search.Suggest", "search --suggest ada"),
    ("Changes.Watch", "watch --from-snapshot"),
    ("Changes.ListChanges", "watch --once --from-snapshot"),
    ("Coverage.GetStatus", "status"),
    ("Coverage.ListGaps", "gaps"),
    ("Coverage.ListScopes", "gaps scopes"),
    ("Coverage.ListAmbiguities", "gaps ambiguous"),
    ("Coverage.ListQuarantined", "gaps quarantined"),
    ("Admin.TriggerSync", "trigger users"),
    ("Admin.ReleaseHold", "release HELD:users --yes"),
    ("Admin.Reindex", "reindex"),
    ("Coverage.ListOverrides", "override list"),
    ("Admin.SetOverride", "override set 0oa1 ada 00u1 --for 1d --reason test"),
    ("Admin.DeleteOverride", "override delete 0oa1 ada"),
];

/// Called only where something is held: `follow::holds_are_released_at_a_server` has it release something.
const NEEDS_A_HOLD: &str = "Admin.ReleaseHold";

/// The rpcs of the API, as the log of calls names them.
fn rpcs() -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let services = files.iter().filter(|file| file.package() == "idmap.v1").flat_map(|file| &file.service);
    let names =
        services.flat_map(|service| service.method.iter().map(|rpc| format!("{}.{}", service.name(), rpc.name())));
    names.collect()
}

#[test]
fn every_rpc_has_a_command() {
    let known: BTreeSet<String> = COMMANDS.iter().map(|(rpc, _)| (*rpc).to_owned()).collect();
    assert_eq!(known, rpcs(), "a command is missing");

    let (org, mut place) = world();
    place.run(&["sync", "-q"]).assert(0, "complete", "");
    let user = org.sim().org.administrator().id();
    let first = |list: &str| {
        let rows = place.run(&[list, "list", "--direct", "--limit", "1", "-o", "json"]).json();
        rows[format!("{list}s")][0]["id"].as_str().unwrap_or_else(|| panic!("{rows}")).to_owned()
    };
    let (app, group) = (first("app"), first("group"));
    std::fs::write(place.path().join("names.txt"), "ada\n\ntwin\n").unwrap();
    place.set("OKTA_IDMAP_CRAWL__INTERVAL", "24h");
    let line = ["serve", "--listen", "127.0.0.1:0", "--log-level", "error,okta_idmap=debug", "--no-color"];
    let mut running = place.start(&line);
    let mut log = running.child().stderr.take().unwrap();
    // Read all the time, so that the server is never kept waiting.
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        text
    });
    let mut out = BufReader::new(running.child().stdout.take().unwrap());
    let mut address = String::new();
    out.read_line(&mut address).unwrap();
    let url = address.trim().strip_prefix("listening on ").unwrap().to_owned();
    for (rpc, command) in COMMANDS {
        let command = command.replace("00u1", &user).replace("0oa1", &app).replace("00g1", &group);
        let line: Vec<&str> = command.split(' ').chain(["--server", &url]).collect();
        if rpc != "Changes.Watch" {
            // Whatever the answer: the server is asked, with a request that makes sense.
            let ran = place.run(&line);
            assert_ne!(ran.code, Some(2), "{rpc}: {ran:?}");
            continue;
        }
        let mut watching = place.start(&line);
        let mut first = String::new();
        BufReader::new(watching.child().stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.contains("snapshot"), "{first}");
        watching.interrupt();
        watching.wait();
    }
    running.terminate();
    running.wait();
    let log = log.join().unwrap();
    for (rpc, command) in COMMANDS.into_iter().filter(|(rpc, _)| *rpc != NEEDS_A_HOLD) {
        assert!(log.contains(&format!("rpc=\"{rpc}\"")), "`{command}` does not call {rpc}");
    }
}

#[test]
fn many_accounts_are_resolved_at_once() {
    let place = Place::with_org();
    store::fill(place.path());
    let mut names = "ada\r\n\ntwin\nnobody\n".to_owned();
    std::fs::write(place.path().join("some.txt"), &names).unwrap();
    let run = |line: &str| place.run(&line.split(' ').chain(["--direct"]).collect::<Vec<_>>());
    let ran = run("resolve jira --from some.txt");
    ran.assert(4, "ada         RESOLVED   00u1     ada@acme.example  ada", "1 of 3 RESOLVED");
    let csv = run("resolve jira --from some.txt -o csv");
    csv.assert(4, "twin,AMBIGUOUS,,", "");
    assert_eq!(csv.out.lines().count(), 4, "{csv:?}");
    let json = run("resolve jira --from some.txt -o json").json();
    assert_eq!(json["results"][0]["resolution"]["user"]["id"], "00u1");
    assert_eq!(
        (&json["results"][2]["correlation_id"], &json["meta"]["completeness"]),
        (&"nobody".into(), &"COMPLETE".into())
    );
    // More than one request, in the order of the lines.
    names = (0..1_200).map(|n| if n == 1_100 { "ada\n".to_owned() } else { format!("nobody{n}\n") }).collect();
    std::fs::write(place.path().join("many.txt"), &names).unwrap();
    let many = run("resolve jira --from many.txt -o csv");
    many.assert(4, "\nada,RESOLVED,00u1,", "1 of 1200 RESOLVED");
    let found: Vec<&str> = many.out.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(found, names.lines().collect::<Vec<_>>());
    std::fs::write(place.path().join("long.txt"), format!("ada\n{}", "x".repeat(2_000_000))).unwrap();
    run("resolve jira --from long.txt").assert(1, "", "long.txt, line 2: longer than 1024 bytes");
    std::fs::write(place.path().join("odd.txt"), b"\xff\n").unwrap();
    run("resolve jira --from odd.txt").assert(1, "", "odd.txt, line 1: is not UTF-8");
    run("resolve jira --from no.txt").assert(1, "", "open no.txt");
    // Standard input is nobody's here, and so nobody is asked for.
    run("resolve jira --from -").assert(0, "", "0 of 0 RESOLVED");
}

#[test]
fn what_changed_is_told_once_without_a_server() {
    let place = Place::with_org();
    store::fill(place.path());
    let run = |line: &str| place.run(&line.split(' ').collect::<Vec<_>>());
    let all = run("watch --once --from-snapshot -o jsonl --direct");
    all.assert(0, "\"snapshot_end\"", "next time: --after ");
    assert_eq!(all.out.lines().filter(|line| line.contains("\"upsert\"")).count(), 16, "{all:?}");
    let next = all.err.split("next time: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    let again = run(&format!("watch --once {next} --direct"));
    again.assert(0, "", &format!("next time: {next}"));
    {
        let store = store::open(place.path());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batch = store::batch(200, vec![store::some_user(1)]);
        runtime.block_on(async { store.writer.commit(Box::new(batch)).await.unwrap().await.unwrap().unwrap() });
    }
    let news = run(&format!("watch --once {next} --direct"));
    news.assert(0, "put         user 00usome1 some1 ACTIVE", "next time: --after ");
    let old = run("watch --once --after 5 --store-id other --direct");
    old.assert(1, "too old", "begin again with --from-snapshot");
    let both = run("watch --once --after 5 --store-id other --from-snapshot --direct");
    both.assert(0, "snapshot    complete", "beginning again with a snapshot");
}
