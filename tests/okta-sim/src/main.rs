//! `okta-sim`: a simulated Okta org beside which a connector can be run by hand.

use std::io::Write as _;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use okta_sim::{ClockMode, Org, RateLimiter, ServerConfig, SimServer, Spec, StartError};

/// Steps of background work per second: a group of 1,000 users takes about five seconds to fan out.
const JOB_STEPS_PER_TICK: usize = 20;
const TICK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RateLimits {
    /// The last published defaults of a Workforce org, half of which is the caller's.
    Workforce,
    /// Those of a free Integrator org.
    Integrator,
    /// No limits.
    None,
}

/// Serves a simulated Okta org on loopback.
#[derive(Debug, Parser)]
#[command(name = "okta-sim", version)]
struct Arguments {
    /// Users besides the administrator.
    #[arg(long, default_value_t = 1_000)]
    users: usize,
    /// Groups besides Everyone; a tenth of the users unless given.
    #[arg(long)]
    groups: Option<usize>,
    /// Apps besides the three built-in ones; a 25th of the users unless given.
    #[arg(long)]
    apps: Option<usize>,
    /// Decides names, sizes and mutations.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Port on 127.0.0.1; 0 = any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// SSWS token that clients must present.
    #[arg(long, default_value = "sim-token")]
    token: String,
    /// Time before each answer.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Rate limits to enforce.
    #[arg(long, value_enum, default_value_t = RateLimits::Workforce)]
    rate_limits: RateLimits,
    /// Random changes per second; each is told in the System Log unless Okta would not tell it.
    #[arg(long, default_value_t = 0.0)]
    mutate_per_second: f64,
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            // Nothing is left to do if even stderr is gone.
            let _ = writeln!(std::io::stderr(), "failed to {error}{source}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the program does something ten times a second until it is ended")]
fn run(arguments: &Arguments) -> Result<(), StartError> {
    let base = Spec::of_users(arguments.users);
    let spec = Spec {
        groups: arguments.groups.unwrap_or(base.groups),
        apps: arguments.apps.unwrap_or(base.apps),
        seed: arguments.seed,
        ..base
    };
    let config = ServerConfig {
        port: arguments.port,
        token: Some(arguments.token.clone()),
        latency_ms: arguments.latency_ms,
        clock: ClockMode::Wall,
        seed: arguments.seed,
    };
    let server = SimServer::start(Org::generate(&spec), &config)?;
    server.sim().limits = match arguments.rate_limits {
        RateLimits::Workforce => RateLimiter::workforce(),
        RateLimits::Integrator => RateLimiter::integrator(),
        RateLimits::None => RateLimiter::unlimited(),
    };
    announce(&server, &arguments.token);
    let mut random = fastrand::Rng::with_seed(arguments.seed);
    let mut owed = 0.0;
    loop {
        std::thread::sleep(TICK);
        let mut sim = server.sim();
        sim.org.run_jobs(JOB_STEPS_PER_TICK);
        owed += arguments.mutate_per_second * TICK.as_secs_f64();
        while owed >= 1.0 {
            owed -= 1.0;
            sim.org.random_mutation(&mut random);
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is what the program is asked to say")]
fn announce(server: &SimServer, token: &str) {
    let url = server.base_url();
    let (users, groups, apps, app_users) = {
        let sim = server.sim();
        let org = &sim.org;
        (org.truth_users().count(), org.truth_groups().count(), org.truth_apps().count(), org.app_user_count())
    };
    println!("simulated org at {url}: {users} users, {groups} groups, {apps} apps, {app_users} app users");
    println!();
    println!("# connector configuration (TOML)");
    println!("[orgs.sim]");
    println!("domain = \"{url}\"");
    println!("api_token = \"{token}\"");
    println!();
    println!("# or without a file");
    println!("export OKTA_IDMAP_DOMAIN={url} OKTA_IDMAP_API_TOKEN={token}");
    println!();
    println!("curl -H 'Authorization: SSWS {token}' '{url}/api/v1/users?limit=2'");
    println!("curl '{url}/sim/truth/app_users'    # what is true: users groups members apps app_users app_groups");
    println!("curl '{url}/sim/requests'           # what was asked; /sim/counts for sums");
}
