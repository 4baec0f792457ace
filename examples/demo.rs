//! The main job on a simulated org, in one process and without any set-up: crawl, store, index, resolve, search.
//!
//! ```text
//! cargo run --example demo                                 # 2,000 users, some look-ups, then it ends
//! cargo run --release --example demo -- --users 20000      # a larger org
//! cargo run --example demo -- --serve                      # stays up for grpcurl and the command line
//! ```
//!
//! Everything is real but the org: the client speaks HTTP to a simulated org on loopback, store and index are files in
//! `--data-dir` (a temporary directory when not given), and every command below is the command line itself.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use okta_sim::org::UserStatus;
use okta_sim::{ClockMode, NewApp, NewUser, Org, ServerConfig, SimServer, Spec};

/// Only the simulated org knows this token.
const TOKEN: &str = "00demoTokenOfTheSimulatedOrgOnly0000000000";

struct Options {
    users: usize,
    latency_ms: u64,
    data_dir: Option<PathBuf>,
    serve: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options { users: 2_000, latency_ms: 2, data_dir: None, serve: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--users" => options.users = value()?.parse().map_err(|_| "--users takes a number".to_owned())?,
            "--latency-ms" => {
                options.latency_ms = value()?.parse().map_err(|_| "--latency-ms takes a number".to_owned())?;
            }
            "--data-dir" => options.data_dir = Some(PathBuf::from(value()?)),
            "--serve" => options.serve = true,
            _ => {
                return Err(format!(
                    "{argument} is unknown; known: --users N, --latency-ms N, --data-dir DIR, --serve"
                ));
            }
        }
    }
    Ok(options)
}

/// An org of invented people, and Jane Doe, whose account in Jira is `jdoe`.
fn org(users: usize) -> Result<Org, Box<dyn Error>> {
    let mut org = Org::generate(&Spec::of_users(users));
    let jane =
        org.create_user(&NewUser::new("jane.doe@acme.example").named("Jane", "Döe").status(UserStatus::Active))?;
    let jira = org.create_app(&NewApp::new("jira_onprem", "Jira"));
    org.assign_user(jira, jane)?;
    org.set_app_user_name(jira, jane, "jdoe")?;
    let group = org.create_group("Eng-EU");
    org.add_member(jane, group)?;
    org.assign_group(jira, group)?;
    org.run_all_jobs();
    Ok(org)
}

fn configuration(dir: &Path, domain: &str) -> Result<PathBuf, Box<dyn Error>> {
    let token = dir.join("api-token");
    fs::write(&token, TOKEN)?;
    #[cfg(unix)]
    fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let path = dir.join("okta-idmap.toml");
    let data = dir.join("data");
    let text = format!(
        "data_dir = {data:?}\n\n[orgs.demo]\ndomain = {domain:?}\napi_token_file = {token:?}\n",
        data = data.display().to_string(),
        token = token.display().to_string(),
    );
    fs::write(&path, text)?;
    Ok(path)
}

/// Runs the command line as a shell would; `true` when it ended well.
#[expect(clippy::print_stdout, reason = "the demo speaks to a person")]
fn run(config: &Path, arguments: &[&str]) -> bool {
    println!("\n$ okta-idmap {}", arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
    let start = [OsString::from("okta-idmap"), "--config".into(), config.into()];
    let code = okta_idmap::cli::main(start.into_iter().chain(arguments.iter().map(OsString::from)));
    code == ExitCode::SUCCESS
}

fn quoted(word: &str) -> String {
    if word.contains([' ', '\'']) { format!("\"{word}\"") } else { word.to_owned() }
}

#[expect(clippy::print_stdout, reason = "the demo speaks to a person")]
fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = options()?;
    let temporary = tempfile::tempdir()?;
    let dir = options.data_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    fs::create_dir_all(&dir)?;

    println!("Making an org of {} users …", options.users);
    let server = SimServer::start(
        org(options.users)?,
        &ServerConfig {
            token: Some(TOKEN.to_owned()),
            latency_ms: options.latency_ms,
            clock: ClockMode::Wall,
            ..ServerConfig::default()
        },
    )?;
    println!("A simulated Okta org answers at {}", server.base_url());
    let config = configuration(&dir, &server.base_url())?;
    println!("The connector's configuration is {}", config.display());

    if options.serve {
        println!("Ctrl-C ends. In another terminal:");
        println!("  okta-idmap --config {} resolve Jira jdoe", config.display());
        println!("  grpcurl -plaintext 127.0.0.1:8450 list");
        return Ok(if run(&config, &["serve"]) { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let done = [
        run(&config, &["sync"]),
        run(&config, &["resolve", "Jira", "jdoe", "--groups"]),
        run(&config, &["user", "accounts", "jane.doe@acme.example"]),
        run(&config, &["search", "doe app:Jira"]),
        run(&config, &["search", "--suggest", "jane do"]),
        run(&config, &["status"]),
    ];
    println!();
    let sent = server.sim().requests.total();
    println!("The whole crawl took {sent} requests, all of them GET.");
    println!("`--serve` keeps the connector up for gRPC; the README shows what else can be asked.");
    Ok(if done.iter().all(|done| *done) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
