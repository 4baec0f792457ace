//! Times look-ups in a large org, each kind beside its limit: `cargo bench --bench lookup -- --users 1000000`.
//!
//! Entry point: `main`. A store of a made-up org with five accounts per user is filled by the store's own writer (once; it is
//! kept for the next run), its index is built, and the server of `serve` runs over both in a process of its own. Callers ask it
//! over loopback; in turns with them, others make empty calls of the same sizes to the same process. Then the services are
//! called without a network, beside bare reads of the same file. Without `--bench`, or with `--tiny`, it runs small, to stay
//! correct. The output is one JSON line per figure; what they mean and what limits them stands in `docs/performance.md`.
//!
//! Arguments: `--users N`, `--dir PATH` (where the store is kept), `--millis N` (time of a round), `--rounds N`, `--only TEXT`
//! (figures whose name has this in it).
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first thing that is wrong")]
#![expect(clippy::panic, clippy::print_stdout, reason = "a benchmark tells its figures")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

#[path = "lookup/fill.rs"]
mod fill;
#[path = "lookup/inside.rs"]
mod inside;
#[path = "lookup/load.rs"]
mod load;
#[path = "lookup/people.rs"]
mod people;
#[path = "lookup/questions.rs"]
mod questions;
#[path = "lookup/server.rs"]
mod server;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use okta_idmap::engine::OrgSettings;
use okta_idmap::store::FORMAT_VERSION;
use okta_idmap_index::FieldBytes;
use okta_idmap_proto::limits::BATCH_ITEMS_MAX;
use okta_idmap_proto::v1::lookup_server::Lookup as _;
use okta_idmap_proto::v1::search_server::Search as _;
use okta_idmap_proto::v1::{self, ResolutionOutcome};
use tonic::Request;

use crate::inside::{Bare, Inside, timed};
use crate::load::{Callers, Measured, share_us};
use crate::people::People;
use crate::questions::{Asked, Draw, Question, SearchShape, Spread};
use crate::server::Served;

/// As long as an answer of `ResolveAccount`.
const BUSY_ANSWER_BYTES: usize = 416;

/// A commit a second, if so many are asked in one.
const CALLS_PER_COMMIT: usize = 100;

/// So many names are remembered for certain.
const NAMES_AT_HAND: usize = 1_000;

/// How often each of them is asked for.
const ROUNDS_AT_HAND: usize = 1_000;

struct Size {
    users: u64,
    /// Where the store is kept; `None`: nowhere.
    dir: Option<PathBuf>,
    /// Time that is asked at a stretch.
    round: Duration,
    rounds: usize,
    /// Different requests of a kind.
    requests: usize,
    /// What names of figures must have in them.
    only: String,
}

impl Size {
    fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let value = |name: &str| {
            let place = arguments.iter().position(|argument| argument == name)?;
            arguments.get(place + 1).cloned()
        };
        let number =
            |name: &str, default: u64| value(name).and_then(|text| text.parse().ok()).unwrap_or(default).max(1);
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let is_tiny = has("--tiny") || !has("--bench");
        let (users, millis, rounds, requests) = if is_tiny { (400, 20, 1, 50) } else { (1_000_000, 400, 10, 200_000) };
        let users = number("--users", users);
        let kept = || {
            let name = format!("lookup-{users}-{FORMAT_VERSION}-{}", okta_idmap_index::SCHEMA_VERSION);
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
        };
        Self {
            users,
            dir: value("--dir").map(PathBuf::from).or_else(|| (!is_tiny).then(kept)),
            round: Duration::from_millis(number("--millis", millis)),
            rounds: usize::try_from(number("--rounds", rounds)).unwrap(),
            requests,
            only: value("--only").unwrap_or_default(),
        }
    }

    fn is_wanted(&self, figure: &str) -> bool {
        figure.contains(&self.only)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, dir] = arguments.as_slice()
        && flag == server::SERVE_FLAG
    {
        server::run(Path::new(dir));
        return;
    }
    let size = Size::from_arguments();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(size));
}

async fn run(size: Size) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = size.dir.clone().unwrap_or_else(|| scratch.path().to_owned());
    let settings = fill::settings(&dir);
    let people = People::new(size.users);
    let made = fill::fill(&settings, &people).await;
    tell_store(&settings, &people, made);
    let served = Served::start(&dir);
    let bench = Bench { size, people, served };
    bench.start().await;
    bench.health().await;
    for spread in [Spread::Even, Spread::Skewed] {
        for callers in [1, 8, 64] {
            bench.resolve(spread, callers).await;
        }
    }
    bench.resolve_over_one_connection().await;
    for micros in [10, 17, 25] {
        for callers in [8, 64] {
            bench.busy(micros, callers).await;
        }
    }
    bench.expand().await;
    bench.batch().await;
    bench.searches().await;
    bench.memory();
    let Bench { size, people, served } = bench;
    served.stop();
    for spread in [Spread::Even, Spread::Skewed] {
        inside(&settings, &people, &size, spread).await;
    }
}

fn tell_store(settings: &OrgSettings, people: &People, (fill_s, index_s, register_s): (f64, f64, f64)) {
    let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len()) >> 20;
    let index = std::fs::read_dir(settings.index_dir()).unwrap();
    let index_mib = index.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum::<u64>() >> 20;
    let rows = okta_idmap::store::Reader::open(&settings.dir).unwrap().read(|snapshot| snapshot.meta()).unwrap().rows;
    let rows: Vec<String> = rows.iter().map(|(kind, rows)| format!(r#""{}":{rows}"#, kind.name())).collect();
    println!(
        r#"{{"figure":"store","apps":{},"rows":{{{}}},"store_mib":{},"index_mib":{index_mib},"register_mib":{},"fill_s":{fill_s:.0},"index_s":{index_s:.0},"register_s":{register_s:.0}}}"#,
        people.apps(),
        rows.join(","),
        size(settings.dir.join(okta_idmap::store::STORE_FILE)),
        size(settings.dir.join(okta_idmap::store::REGISTER_FILE)),
    );
    let reader = okta_idmap_index::open_read_only(&settings.index_dir()).unwrap();
    for bytes in reader.bytes_by_field().unwrap() {
        let FieldBytes { field, terms, postings, positions, column, other } = &bytes;
        let parts = [terms, postings, positions, column, other].map(|bytes| bytes >> 20);
        println!(
            r#"{{"figure":"index, {}","mib":{},"terms_mib":{},"postings_mib":{},"positions_mib":{},"column_mib":{},"other_mib":{}}}"#,
            if field.is_empty() { "of no field" } else { field },
            bytes.total() >> 20,
            parts[0],
            parts[1],
            parts[2],
            parts[3],
            parts[4],
        );
    }
}

struct Bench {
    size: Size,
    people: People,
    served: Served,
}

fn is_found(user: u64, resolution: Option<&v1::Resolution>) -> bool {
    let Some(resolution) = resolution else { return false };
    let expected = if people::is_active(user) { ResolutionOutcome::Resolved } else { ResolutionOutcome::Inactive };
    let found = resolution.user.as_ref().map(|found| found.id.as_str());
    resolution.outcome() == expected && found == Some(people::user_id(user).as_str())
}

fn is_complete(meta: Option<&v1::ResponseMeta>) -> bool {
    meta.is_some_and(|meta| meta.completeness() == v1::Completeness::Complete)
}

fn is_batch_right(user: u64, answer: &v1::BatchResolveResponse) -> bool {
    use v1::batch_resolve_result::Result::Resolution;
    let first = answer.results.first().and_then(|result| result.result.as_ref());
    is_complete(answer.meta.as_ref()) && matches!(first, Some(Resolution(found)) if is_found(user, Some(found)))
}

fn is_expanded(user: u64, answer: &v1::ExpandUserResponse) -> bool {
    is_complete(answer.meta.as_ref()) && answer.match_nothing != people::is_active(user)
}

impl Bench {
    fn draw(&self, spread: Spread) -> Draw<'_> {
        Draw::new(&self.people, spread)
    }

    fn requests<T>(&self, share: usize, mut draw: impl FnMut() -> T) -> Vec<T> {
        (0..(self.size.requests / share).max(10)).map(|_| draw()).collect()
    }

    /// From the begin of the process to the first answer of each kind.
    async fn start(&self) {
        let mut draw = self.draw(Spread::Even);
        let callers = Callers::connect(self.served.lookups, 1).await;
        let ask = async |question: Question| {
            let (question, next) = (Arc::new(question), Arc::new(AtomicUsize::new(0)));
            callers.ask(&self.served, &question, 1, Duration::ZERO, &next).await;
            self.served.began.elapsed().as_millis()
        };
        let first = ask(resolve_question(vec![draw.resolve()])).await;
        // The index is opened beside.
        let search = loop {
            let mut client =
                okta_idmap_proto::v1::search_client::SearchClient::connect(format!("http://{}", self.served.lookups))
                    .await
                    .unwrap();
            let asked = draw.search(SearchShape::FullName).request;
            if client.search(asked).await.is_ok() {
                break self.served.began.elapsed().as_millis();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        println!(r#"{{"figure":"start","first_answer_ms":{first},"first_search_ms":{search},"bar_ms":2000}}"#);
    }

    /// What the way to a service costs: the gate and the time limits, but no store.
    async fn health(&self) {
        // SERVING, as the answer is encoded.
        let is_right = |_, body: Bytes| *body == [0x08, 0x01];
        let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let question = Question { path, bodies: vec![Bytes::new()], is_right: Box::new(is_right) };
        self.beside("health check", question, 64, None).await;
    }

    async fn resolve(&self, spread: Spread, callers: usize) {
        let mut draw = self.draw(spread);
        let question = resolve_question(self.requests(1, || draw.resolve()));
        let name = format!("ResolveAccount, {}", spread.name());
        self.beside(&name, question, callers, Some(0.7)).await;
    }

    /// As programs call that keep one connection, which has fewer cores than there are.
    async fn resolve_over_one_connection(&self) {
        let (mut draw, callers) = (self.draw(Spread::Even), 64);
        let question = resolve_question(self.requests(1, || draw.resolve()));
        let name = "ResolveAccount, even, over one connection";
        if self.size.is_wanted(name) {
            let connect = async |address| Callers::connect_over(address, 1).await;
            let connected = [connect(self.served.lookups).await, connect(self.served.empty).await];
            self.in_turns(name, question, callers, Some(0.7), connected).await;
        }
    }

    /// What throughput is left where an answer costs so many microseconds of nothing but time: the room that a look-up has.
    async fn busy(&self, micros: usize, callers: usize) {
        let mut draw = self.draw(Spread::Even);
        let mut question = resolve_question(self.requests(10, || draw.resolve()));
        question.path = PathAndQuery::from_str(&format!("/figures.Empty/{micros}/{BUSY_ANSWER_BYTES}")).unwrap();
        question.is_right = Box::new(|_, body| body.len() == BUSY_ANSWER_BYTES);
        self.beside_of(&format!("busy call of {micros} us"), question, callers, Some(0.7), self.served.empty).await;
    }

    async fn expand(&self) {
        let mut draw = self.draw(Spread::Even);
        let asked = self.requests(2, || draw.expand());
        let question = Question::of("/idmap.v1.Lookup/ExpandUser", asked, |user, answer| is_expanded(user, &answer));
        // The gaps over all groups are gone through once after each change of the coverage.
        let callers = Callers::connect(self.served.lookups, 1).await;
        let (question, next) = (Arc::new(question), Arc::new(AtomicUsize::new(0)));
        callers.ask(&self.served, &question, 1, Duration::ZERO, &next).await;
        self.beside("ExpandUser, even", Arc::into_inner(question).unwrap(), 8, None).await;
    }

    /// In turns: look-ups, empty calls of the same sizes, empty calls of no size.
    async fn beside(&self, name: &str, question: Question, callers: usize, bar: Option<f64>) {
        self.beside_of(name, question, callers, bar, self.served.lookups).await;
    }

    async fn beside_of(&self, name: &str, question: Question, callers: usize, bar: Option<f64>, address: SocketAddr) {
        if !self.size.is_wanted(name) {
            return;
        }
        let connected = [Callers::connect(address, callers).await, Callers::connect(self.served.empty, callers).await];
        self.in_turns(name, question, callers, bar, connected).await;
    }

    /// The question over the first connections, empty calls over the second.
    async fn in_turns(
        &self,
        name: &str,
        question: Question,
        callers: usize,
        bar: Option<f64>,
        [connected, limit]: [Callers; 2],
    ) {
        let round = self.size.round;
        let (question, next) = (Arc::new(question), Arc::new(AtomicUsize::new(0)));
        let probe = connected.ask(&self.served, &question, callers, round, &next).await;
        let same_size = Arc::new(question.to_nobody(probe.answer_bytes()));
        let empty = Arc::new(Question::empty());
        let [mut real, mut limited, mut nothing] = <[Measured; 3]>::default();
        let mut ratios = Vec::new();
        for _ in 0..self.size.rounds {
            let one = connected.ask(&self.served, &question, callers, round, &next).await;
            let other = limit.ask(&self.served, &same_size, callers, round, &next).await;
            ratios.push(one.per_second() / other.per_second());
            real.add(one);
            limited.add(other);
            nothing.add(limit.ask(&self.served, &empty, callers, round, &next).await);
        }
        ratios.sort_by(f64::total_cmp);
        let ((cpu, client_cpu), (limit_cpu, limit_client_cpu)) = (real.cpu_us(), limited.cpu_us());
        // The kernel counts in hundredths of a second: too coarse for a tiny run.
        let cpu_ratio = Some((limit_cpu + limit_client_cpu) / (cpu + client_cpu)).filter(|ratio| ratio.is_finite());
        let cpu_ratio = cpu_ratio.unwrap_or_default();
        println!(
            r#"{{"figure":"{name}","callers":{callers},"per_s":{:.0},"same_size_per_s":{:.0},"empty_per_s":{:.0},"ratio":{:.3},"cpu_ratio":{:.3}{},"p50_us":{:.0},"p99_us":{:.0},"same_size_p50_us":{:.0},"same_size_p99_us":{:.0},"server_cpu_us":{cpu:.1},"client_cpu_us":{client_cpu:.1},"same_size_server_cpu_us":{limit_cpu:.1},"same_size_client_cpu_us":{limit_client_cpu:.1},"answer_bytes":{}}}"#,
            real.per_second(),
            limited.per_second(),
            nothing.per_second(),
            ratios[ratios.len() / 2],
            cpu_ratio,
            bar.map(|bar| format!(r#","bar":{bar}"#)).unwrap_or_default(),
            real.share_us(0.5),
            real.share_us(0.99),
            limited.share_us(0.5),
            limited.share_us(0.99),
            probe.answer_bytes(),
        );
    }

    async fn batch(&self) {
        for (spread, callers) in [(Spread::Even, 1), (Spread::Skewed, 1), (Spread::Even, 2)] {
            let mut draw = self.draw(spread);
            let asked = self.requests(500, || draw.batch(BATCH_ITEMS_MAX));
            let question =
                Question::of("/idmap.v1.Lookup/BatchResolve", asked, |user, answer| is_batch_right(user, &answer));
            self.alone(&format!("BatchResolve of 1000, {}", spread.name()), question, callers, 5_000).await;
        }
    }

    async fn searches(&self) {
        let search = |asked| Question::of("/idmap.v1.Search/Search", asked, |_, _: v1::SearchResponse| true);
        let mut draw = self.draw(Spread::Even);
        for (shape, name) in SearchShape::ALL {
            let asked = self.requests(100, || draw.search(shape));
            self.alone(&format!("Search, {name}"), search(asked), 1, 20_000).await;
        }
        for callers in [1, 4] {
            let mut place = 0;
            let asked = self.requests(100, || {
                place += 1;
                draw.search(SearchShape::ALL[place % SearchShape::ALL.len()].0)
            });
            self.alone("Search, all of these", search(asked), callers, 20_000).await;
        }
        for callers in [1, 4] {
            let asked = self.requests(100, || draw.suggest());
            let question = Question::of("/idmap.v1.Search/Suggest", asked, |_, _: v1::SuggestResponse| true);
            self.alone("Suggest", question, callers, 10_000).await;
        }
    }

    /// What has a bar in time and not beside an empty call.
    async fn alone(&self, name: &str, question: Question, callers: usize, bar_us: u64) {
        if !self.size.is_wanted(name) {
            return;
        }
        let connected = Callers::connect(self.served.lookups, callers).await;
        let (question, next) = (Arc::new(question), Arc::new(AtomicUsize::new(0)));
        connected.ask(&self.served, &question, callers, self.size.round, &next).await;
        let time = self.size.round * u32::try_from(self.size.rounds).unwrap();
        let mut measured = connected.ask(&self.served, &question, callers, time, &next).await;
        println!(
            r#"{{"figure":"{name}","callers":{callers},"calls":{},"p50_us":{:.0},"p99_us":{:.0},"max_us":{:.0},"bar_p99_us":{bar_us},"server_cpu_us":{:.0},"answer_bytes":{}}}"#,
            measured.times.len(),
            measured.share_us(0.5),
            measured.share_us(0.99),
            measured.share_us(1.0),
            measured.cpu_us().0,
            measured.answer_bytes(),
        );
    }

    fn memory(&self) {
        let memory = |name| self.served.memory(name);
        println!(
            r#"{{"figure":"memory","rss_mib":{},"rss_max_mib":{},"anonymous_mib":{},"file_mib":{},"bar_mib":300}}"#,
            memory("VmRSS"),
            memory("VmHWM"),
            memory("RssAnon"),
            memory("RssFile"),
        );
    }
}

fn resolve_question(asked: Vec<Asked<v1::ResolveAccountRequest>>) -> Question {
    Question::of("/idmap.v1.Lookup/ResolveAccount", asked, |user, answer: v1::ResolveAccountResponse| {
        is_complete(answer.meta.as_ref()) && is_found(user, answer.resolution.as_ref())
    })
}

/// Without a network: how long an answer takes in the server, and how long bare reads take.
async fn inside(settings: &OrgSettings, people: &People, size: &Size, spread: Spread) {
    let mut draw = Draw::new(people, spread);
    let calls = (size.requests / 4).max(10);
    let asked: Vec<_> = (0..calls).map(|_| draw.resolve()).collect();
    let selector = |asked: &Asked<v1::ResolveAccountRequest>| asked.request.account.clone().unwrap();
    let bare = Bare::open(&settings.dir);
    let places: Vec<_> = asked.iter().map(|asked| bare.places(&selector(asked), asked.user)).collect();
    let selectors: Vec<_> = asked.iter().map(selector).collect();
    let wanted = |name: &str| size.is_wanted(&format!("in the process: {name}, {}", spread.name()));
    let tell = |name: &str, mut times: Vec<Duration>, bar: &str| {
        println!(
            r#"{{"figure":"in the process: {name}, {}","calls":{},"p50_us":{:.1},"p99_us":{:.1},"p999_us":{:.1}{bar}}}"#,
            spread.name(),
            times.len(),
            share_us(&mut times, 0.5),
            share_us(&mut times, 0.99),
            share_us(&mut times, 0.999),
        );
    };
    let once = |is_there| std::future::ready(move || is_there);
    if wanted("bare point read") {
        let _warm = timed(&places, |place| once(bare.point(*place) < usize::MAX)).await;
        tell("bare point read", timed(&places, |place| once(bare.point(*place) < usize::MAX)).await, "");
    }
    if wanted("bare reads of a resolution") {
        tell("bare reads of a resolution", timed(&selectors, |one| once(bare.resolution(one) > 0)).await, "");
    }
    let inside = Inside::open(settings).await;
    let lookup = inside.services.lookup();
    if wanted("ResolveAccount") {
        let resolve = |asked: &Asked<v1::ResolveAccountRequest>| {
            let (request, user, lookup) = (asked.request.clone(), asked.user, lookup.clone());
            async move {
                let answer = lookup.resolve_account_encoded(Request::new(request)).await.unwrap().into_inner();
                move || {
                    let answer: v1::ResolveAccountResponse = answer.message().unwrap();
                    is_found(user, answer.resolution.as_ref())
                }
            }
        };
        // What is asked for again is remembered: those who warm the caches are others.
        let few = asked.get(..NAMES_AT_HAND.min(asked.len() / 2)).unwrap_or_default();
        let _warm = timed(few, resolve).await;
        tell(
            "ResolveAccount",
            timed(asked.get(few.len()..).unwrap_or_default(), resolve).await,
            r#","bar_p99_us":1000"#,
        );
        let mut times = Vec::new();
        for _ in 0..ROUNDS_AT_HAND {
            times.extend(timed(few, resolve).await);
        }
        tell("ResolveAccount, names at hand", times, "");
        let mut times = Vec::new();
        for number in 0..(asked.len() / CALLS_PER_COMMIT).max(1) {
            // Somebody else, as in an org that changes all the time.
            inside.rename(people.users - 1, &number.to_string()).await;
            let place = number * CALLS_PER_COMMIT % few.len();
            let asked = few.get(place..(place + CALLS_PER_COMMIT).min(few.len())).unwrap_or_default();
            times.extend(timed(asked, resolve).await);
        }
        tell("ResolveAccount, names at hand, a commit between each hundred", times, "");
    }
    if wanted("ExpandUser") {
        let expanded: Vec<_> = (0..calls).map(|_| draw.expand()).collect();
        let expand = |asked: &Asked<v1::ExpandUserRequest>| {
            let (request, user, lookup) = (asked.request.clone(), asked.user, &lookup);
            async move {
                let answer = lookup.expand_user(Request::new(request)).await.unwrap().into_inner();
                move || is_expanded(user, &answer)
            }
        };
        tell("ExpandUser", timed(&expanded, expand).await, "");
    }
    if wanted("BatchResolve of 1000") {
        let batches: Vec<_> = (0..(calls / 500).max(3)).map(|_| draw.batch(BATCH_ITEMS_MAX)).collect();
        let batch = |asked: &Asked<v1::BatchResolveRequest>| {
            let (request, user, lookup) = (asked.request.clone(), asked.user, lookup.clone());
            async move {
                let answer = lookup.batch_resolve_encoded(Request::new(request)).await.unwrap().into_inner();
                move || is_batch_right(user, &answer.message().unwrap())
            }
        };
        tell("BatchResolve of 1000", timed(&batches, batch).await, r#","bar_p99_us":5000"#);
    }
    if wanted("Suggest") {
        let search = inside.services.search();
        let typed: Vec<_> = (0..(calls / 50).max(3)).map(|_| draw.suggest()).collect();
        let suggest = |asked: &Asked<v1::SuggestRequest>| {
            let (request, search) = (asked.request.clone(), &search);
            async move {
                let answer = search.suggest(Request::new(request)).await;
                move || answer.is_ok()
            }
        };
        tell("Suggest", timed(&typed, suggest).await, r#","bar_p99_us":10000"#);
    }
}
