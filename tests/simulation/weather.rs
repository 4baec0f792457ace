//! What goes wrong for a while. Entry point: [`bring`]; [`clear`] ends it.

use fastrand::Rng;
use okta_sim::{Action, Hidden, LogControls, Refusal, Rule, Sim};

/// Everything that is listed or read.
const ENDPOINTS: [&str; 11] = [
    "/api/v1/users",
    "/api/v1/users/*",
    "/api/v1/groups",
    "/api/v1/groups/*",
    "/api/v1/groups/*/users",
    "/api/v1/apps",
    "/api/v1/apps/*",
    "/api/v1/apps/*/users",
    "/api/v1/apps/*/users/*",
    "/api/v1/apps/*/groups",
    "/api/v1/logs",
];

/// The lists whose rows may be missing. Not the log: an event that it does not show is lost.
const LISTS: [&str; 6] = [
    "/api/v1/users",
    "/api/v1/groups",
    "/api/v1/groups/*/users",
    "/api/v1/apps",
    "/api/v1/apps/*/users",
    "/api/v1/apps/*/groups",
];

/// What it does to what can be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Answers come late, twice or not at all; whatever is answered is true.
    Disturbs,
    /// What is there looks as if it were gone. When it is back no event says so: a full crawl has to come.
    Hides,
}

type Bring = fn(&mut Rng, &mut Sim);

/// Name, weight, harm, what it does.
const TROUBLES: &[(&str, u32, Harm, Bring)] = &[
    ("events come late", 6, Harm::Disturbs, |random, sim| {
        let controls =
            LogControls { late_probability: 0.3, late_delay_ms: random.u64(50..400), ..LogControls::default() };
        sim.org.set_log_controls(controls);
    }),
    ("events come twice", 6, Harm::Disturbs, |_, sim| {
        sim.org.set_log_controls(LogControls { duplicate_probability: 0.4, ..LogControls::default() });
    }),
    // The simulated org holds them for two seconds.
    ("events overtake each other", 1, Harm::Disturbs, |_, sim| {
        sim.org.set_log_controls(LogControls { reorder_probability: 0.2, ..LogControls::default() });
    }),
    ("events are late, doubled and mixed", 4, Harm::Disturbs, |random, sim| {
        sim.org.set_log_controls(LogControls {
            delay_ms: random.u64(0..100),
            late_probability: 0.5,
            late_delay_ms: random.u64(1..300),
            duplicate_probability: 0.5,
            ..LogControls::default()
        });
    }),
    ("throttled", 3, Harm::Disturbs, |random, sim| {
        let rule = Rule::on(any(random, &ENDPOINTS), Action::Refuse(Refusal::RateLimited(1)));
        sim.rules.push(rule.times(random.u32(1..3)).probability(0.3));
    }),
    ("too many at once", 1, Harm::Disturbs, |random, sim| {
        sim.rules.push(Rule::on(any(random, &ENDPOINTS), Action::Refuse(Refusal::Concurrency)).times(1));
    }),
    ("server errors", 6, Harm::Disturbs, |random, sim| {
        for _ in 0..random.usize(1..4) {
            let refusals = [Refusal::Internal, Refusal::BadGateway, Refusal::ReadOnly, Refusal::GatewayTimeout];
            let refusal = refusals[random.usize(0..refusals.len())].clone();
            let rule = Rule::on(any(random, &ENDPOINTS), Action::Refuse(refusal));
            sim.rules.push(rule.times(random.u32(1..3)).after(random.u32(0..4)));
        }
    }),
    ("broken answers", 6, Harm::Disturbs, |random, sim| {
        for _ in 0..random.usize(1..4) {
            let actions = [Action::Reset, Action::Truncate, Action::CutJson, Action::HtmlOk, Action::EmptyBodyOk];
            let action = actions[random.usize(0..actions.len())].clone();
            let rule = Rule::on(any(random, &ENDPOINTS), action);
            sim.rules.push(rule.times(random.u32(1..3)).after(random.u32(0..4)));
        }
    }),
    ("slow answers", 6, Harm::Disturbs, |random, sim| {
        sim.rules.push(Rule::everywhere(Action::Delay(random.u64(5..60))).probability(0.4));
    }),
    ("one list is very slow", 4, Harm::Disturbs, |random, sim| {
        sim.rules.push(Rule::on(any(random, &ENDPOINTS), Action::Delay(random.u64(100..400))).probability(0.5));
    }),
    ("odd pages", 6, Harm::Disturbs, |random, sim| {
        let actions = [Action::ShortPage(40), Action::EmptyPage, Action::DuplicateAcrossPages, Action::ClampLimit(20)];
        let action = actions[random.usize(0..actions.len())].clone();
        sim.rules.push(Rule::on(any(random, &LISTS), action).probability(0.5));
    }),
    ("odd answers", 6, Harm::Disturbs, |random, sim| {
        let quirks = &mut sim.quirks;
        quirks.links_in_one_line = random.bool();
        quirks.links_next_first = random.bool();
        quirks.lowercase_header_names = random.bool();
        quirks.expand_lost_on_page_2 = random.bool();
        quirks.rate_headers_missing = random.bool();
        quirks.omit_nulls = random.bool();
        quirks.stray_quote_key = random.bool();
        quirks.targets_shuffled = random.bool();
        quirks.log_shapes_odd = random.bool();
        quirks.log_next_rewritten = random.bool();
    }),
    ("no search", 2, Harm::Disturbs, |_, sim| sim.quirks.search_unavailable = true),
    ("the log is forbidden", 4, Harm::Disturbs, |_, sim| {
        sim.rules.push(Rule::on("/api/v1/logs", Action::Refuse(Refusal::Forbidden)));
    }),
    ("something is forbidden", 2, Harm::Disturbs, |random, sim| {
        sim.rules.push(Rule::on(any(random, &ENDPOINTS), Action::Refuse(Refusal::Forbidden)));
    }),
    ("log positions are lost", 3, Harm::Disturbs, |_, sim| sim.org.expire_log_cursors()),
    ("a list is cut short", 4, Harm::Hides, |random, sim| {
        sim.rules.push(Rule::on(any(random, &LISTS), Action::ShrinkList(30)));
    }),
    ("a list is empty", 4, Harm::Hides, |random, sim| {
        sim.rules.push(Rule::on(any(random, &LISTS), Action::EmptyList));
    }),
    ("objects are hidden", 2, Harm::Hides, hide),
];

fn any<'a>(random: &mut Rng, patterns: &[&'a str]) -> &'a str {
    patterns[random.usize(0..patterns.len())]
}

/// A third of one kind of object, as for a role that was narrowed.
fn hide(random: &mut Rng, sim: &mut Sim) {
    let kind = random.u8(0..3);
    let mut some = |ids: Vec<String>| ids.into_iter().filter(|_| random.u8(0..3) == 0).collect();
    sim.hidden = match kind {
        0 => Hidden { users: some(sim.org.truth_users().map(|user| user.id).collect()), ..Hidden::default() },
        1 => Hidden { groups: some(sim.org.truth_groups().map(|group| group.id).collect()), ..Hidden::default() },
        _ => Hidden { apps: some(sim.org.truth_apps().map(|app| app.id).collect()), ..Hidden::default() },
    };
}

/// Brings one trouble; answers what it is.
pub(crate) fn bring(random: &mut Rng, sim: &mut Sim) -> (&'static str, Harm) {
    let mut draw = random.u32(0..TROUBLES.iter().map(|(_, weight, ..)| weight).sum());
    for (name, weight, harm, bring) in TROUBLES {
        if draw < *weight {
            bring(random, sim);
            return (name, *harm);
        }
        draw -= weight;
    }
    unreachable!("the draw is below the sum of the weights")
}

/// From now on everything is answered, and every event comes at once.
pub(crate) fn clear(sim: &mut Sim) {
    sim.behave();
    sim.org.set_log_controls(LogControls::default());
}
