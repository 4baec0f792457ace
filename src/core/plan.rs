//! Which requests read a set of dirty accounts and users at the least cost.
//!
//! Entry points: [`plan_pairs`] for accounts, [`sizes_wanted`] for what must be counted before, [`plan_users`] for users.
//!
//! Invariants:
//! - A plan covers everything dirty, and costs no more requests than reading each pair by itself.
//! - Up to [`PAIRS_AT_ONCE_MAX`] pairs no plan is cheaper. (An account lies between an app and a user and is read by the list
//!   of the one, the walk of the other, or by itself: the cheapest choice is a minimum cut, so it is computed, not
//!   approached. Taking apps first and users then, which facts 12.2 calls enough, costs one request per app when two users
//!   are given many apps at once, instead of two.)
//! - The same input gives the same plan; no list or walk stands in a plan that saves nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::{AppId, UserId};

/// Most pairs that are planned together. More are planned in portions of this many, in order of app and user: each portion
/// at its least cost, and the next one finds what the lists of the former ones cover. Bounds the time, which grows
/// faster than the number of pairs: a tangled portion takes 0.1 to 0.3 s in an unoptimized build.
pub const PAIRS_AT_ONCE_MAX: usize = 50_000;

/// Most users that one search names: facts 1.3 advises 20 to 50, because Okta refuses a longer expression as too complex.
pub const USERS_PER_SEARCH_MAX: usize = 50;

/// How many rows the lists have, as far as it matters: see [`sizes_wanted`]. What is missing counts as no rows, which is
/// still one page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// App users of an app, in rows.
    pub app_users: BTreeMap<AppId, u64>,
    /// Accounts of a user, in rows.
    pub user_apps: BTreeMap<UserId, u64>,
}

impl Sizes {
    /// Requests that list all app users of `app`.
    fn app_requests(&self, app: &AppId, costs: Costs) -> u64 {
        pages(self.app_users.get(app), costs.app_users_page)
    }

    /// Requests that walk all accounts of `user`.
    fn user_requests(&self, user: &UserId, costs: Costs) -> u64 {
        pages(self.user_apps.get(user), costs.user_apps_page)
    }
}

/// Requests for a list: an empty one takes one, too. A page size of zero counts as one.
fn pages(rows: Option<&u64>, page_rows: u32) -> u64 {
    rows.map_or(1, |rows| rows.div_ceil(u64::from(page_rows.max(1))).max(1))
}

/// Page sizes, in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Costs {
    /// Of `/apps/{id}/users`.
    pub app_users_page: u32,
    /// Of `/apps?filter=user.id eq "…"&expand=user/…`.
    pub user_apps_page: u32,
}

impl Default for Costs {
    /// The largest pages that Okta gives (facts 1.1, 1.3).
    fn default() -> Self {
        Self { app_users_page: 500, user_apps_page: 200 }
    }
}

/// What to request. Each of the three is sorted and holds nothing twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairPlan {
    /// Apps of which all app users are listed.
    pub apps: Vec<AppId>,
    /// Users of which all accounts are walked.
    pub users: Vec<UserId>,
    /// Accounts that are read by themselves.
    pub pairs: Vec<(AppId, UserId)>,
}

impl PairPlan {
    /// Requests that the plan takes.
    pub fn cost(&self, sizes: &Sizes, costs: Costs) -> u64 {
        let apps: u64 = self.apps.iter().map(|app| sizes.app_requests(app, costs)).sum();
        let users: u64 = self.users.iter().map(|user| sizes.user_requests(user, costs)).sum();
        apps + users + self.pairs.len() as u64
    }

    /// Whether the plan reads the account.
    pub fn covers(&self, pair: &(AppId, UserId)) -> bool {
        self.is_listed(pair) || self.pairs.binary_search(pair).is_ok()
    }

    /// Whether a list or a walk of the plan reads the account.
    fn is_listed(&self, (app, user): &(AppId, UserId)) -> bool {
        self.apps.binary_search(app).is_ok() || self.users.binary_search(user).is_ok()
    }
}

/// Whose rows are to be counted, and up to how many of them: in order of id.
pub type RowCaps<Id> = Vec<(Id, u64)>;

/// Of how many rows it must be known that they are there, before planning: lists that are longer than the cap are never
/// worth it, whatever their length. Only apps and users with at least two dirty pairs; a single pair is read by itself.
pub fn sizes_wanted(dirty: &BTreeSet<(AppId, UserId)>, costs: Costs) -> (RowCaps<AppId>, RowCaps<UserId>) {
    let mut apps: BTreeMap<&AppId, u64> = BTreeMap::new();
    let mut users: BTreeMap<&UserId, u64> = BTreeMap::new();
    for (app, user) in dirty {
        *apps.entry(app).or_default() += 1;
        *users.entry(user).or_default() += 1;
    }
    let cap = |count: u64, page_rows: u32| count.saturating_mul(u64::from(page_rows.max(1)));
    let apps = apps.into_iter().filter(|(_, count)| *count >= 2);
    let users = users.into_iter().filter(|(_, count)| *count >= 2);
    (
        apps.map(|(app, count)| (app.clone(), cap(count, costs.app_users_page))).collect(),
        users.map(|(user, count)| (user.clone(), cap(count, costs.user_apps_page))).collect(),
    )
}

/// The cheapest requests that read all of `dirty`.
///
/// Takes every form for equally dear per request: all three draw on the same rate-limit bucket (facts 12.2).
pub fn plan_pairs(dirty: &BTreeSet<(AppId, UserId)>, sizes: &Sizes, costs: Costs) -> PairPlan {
    let mut plan = PairPlan::default();
    let mut left = dirty.iter().peekable();
    while left.peek().is_some() {
        let uncovered = left.by_ref().filter(|pair| !plan.is_listed(pair));
        let portion: Vec<&(AppId, UserId)> = uncovered.take(PAIRS_AT_ONCE_MAX).collect();
        let PairPlan { apps, users, pairs } = plan_portion(&portion, sizes, costs);
        plan.apps.extend(apps);
        plan.apps.sort_unstable();
        plan.users.extend(users);
        plan.users.sort_unstable();
        plan.pairs.extend(pairs);
    }
    // A list chosen for a later portion may cover pairs of a former one.
    let (apps, users) = (&plan.apps, &plan.users);
    plan.pairs.retain(|(app, user)| apps.binary_search(app).is_err() && users.binary_search(user).is_err());
    plan
}

/// One side of the pairs: the apps, or the users.
struct Side<Id> {
    ids: Vec<Id>,
    /// Requests to read all of each.
    requests: Vec<u64>,
    /// How many pairs each has.
    pairs: Vec<u64>,
    /// Whether all of each is read.
    chosen: Vec<bool>,
}

impl<Id: Ord + Clone> Side<Id> {
    fn new<'a>(ids: impl Iterator<Item = &'a Id>, requests: impl Fn(&Id) -> u64) -> Self
    where
        Id: 'a,
    {
        let mut counts: BTreeMap<&Id, u64> = BTreeMap::new();
        ids.for_each(|id| *counts.entry(id).or_default() += 1);
        Self {
            ids: counts.keys().map(|id| (*id).clone()).collect(),
            requests: counts.keys().map(|id| requests(id)).collect(),
            chosen: vec![false; counts.len()],
            pairs: counts.into_values().collect(),
        }
    }

    /// Where an id stands. Every id that is asked for was handed to [`Side::new`].
    fn place(&self, id: &Id) -> usize {
        self.ids.partition_point(|other| other < id)
    }

    /// What reading all of it costs at most: one request per pair does the same.
    fn capacity(&self, place: usize) -> u64 {
        self.requests[place].min(self.pairs[place])
    }

    /// Gives up what saves nothing, given how many pairs of each nothing else reads.
    fn give_up_idle(&mut self, pairs_alone: &[u64]) {
        for (place, chosen) in self.chosen.iter_mut().enumerate() {
            *chosen &= pairs_alone[place] > self.requests[place];
        }
    }

    fn into_chosen(self) -> Vec<Id> {
        self.ids.into_iter().zip(self.chosen).filter(|(_, chosen)| *chosen).map(|(id, _)| id).collect()
    }
}

fn plan_portion(portion: &[&(AppId, UserId)], sizes: &Sizes, costs: Costs) -> PairPlan {
    let mut apps = Side::new(portion.iter().map(|(app, _)| app), |app| sizes.app_requests(app, costs));
    let mut users = Side::new(portion.iter().map(|(_, user)| user), |user| sizes.user_requests(user, costs));
    let edges: Vec<(usize, usize)> = portion.iter().map(|(app, user)| (apps.place(app), users.place(user))).collect();

    // Water flows from the source through apps, pairs and users to the sink. A cut separates the two by closing, for every
    // pair, its app's inflow, its user's outflow, or the pair itself: that is what a plan does.
    let mut network = Network::new(2 + apps.ids.len() + users.ids.len());
    let (first_app, first_user) = (2, 2 + apps.ids.len());
    for place in 0..apps.ids.len() {
        network.connect(SOURCE, first_app + place, apps.capacity(place));
    }
    for place in 0..users.ids.len() {
        network.connect(first_user + place, SINK, users.capacity(place));
    }
    for (app, user) in &edges {
        network.connect(first_app + app, first_user + user, 1);
    }
    let is_wet = network.cut();
    for (place, chosen) in apps.chosen.iter_mut().enumerate() {
        *chosen = !is_wet[first_app + place];
    }
    for (place, chosen) in users.chosen.iter_mut().enumerate() {
        *chosen = is_wet[first_user + place];
    }

    let mut alone = vec![0; apps.ids.len()];
    edges.iter().filter(|(_, user)| !users.chosen[*user]).for_each(|(app, _)| alone[*app] += 1);
    apps.give_up_idle(&alone);
    let mut alone = vec![0; users.ids.len()];
    edges.iter().filter(|(app, _)| !apps.chosen[*app]).for_each(|(_, user)| alone[*user] += 1);
    users.give_up_idle(&alone);

    let is_single = |(app, user): &(usize, usize)| !apps.chosen[*app] && !users.chosen[*user];
    let singles = portion.iter().zip(&edges).filter(|(_, edge)| is_single(edge));
    let pairs = singles.map(|(pair, _)| (*pair).clone()).collect();
    PairPlan { apps: apps.into_chosen(), users: users.into_chosen(), pairs }
}

const SOURCE: usize = 0;
const SINK: usize = 1;

/// A pipe, followed by the one in the other direction: number `n` and number `n ^ 1`.
struct Pipe {
    to: usize,
    free: u64,
}

/// A network of pipes, for the maximum flow by Dinic's method: shortest paths first, all of one length at a time. All paths
/// lead through a pair, whose capacity is one, so water is sent by the unit.
struct Network {
    pipes: Vec<Pipe>,
    /// The pipes that leave each node.
    leaving: Vec<Vec<usize>>,
}

impl Network {
    fn new(nodes: usize) -> Self {
        Self { pipes: Vec::new(), leaving: vec![Vec::new(); nodes] }
    }

    fn connect(&mut self, from: usize, to: usize, capacity: u64) {
        self.leaving[from].push(self.pipes.len());
        self.pipes.push(Pipe { to, free: capacity });
        self.leaving[to].push(self.pipes.len());
        self.pipes.push(Pipe { to: from, free: 0 });
    }

    /// Lets all water flow that can, and tells which nodes it could still reach: the source's side of a minimum cut.
    fn cut(mut self) -> Vec<bool> {
        loop {
            let distances = self.distances();
            if distances[SINK].is_none() {
                return distances.into_iter().map(|distance| distance.is_some()).collect();
            }
            let mut next = vec![0; self.leaving.len()];
            while self.send_unit(&distances, &mut next) {}
        }
    }

    /// How many free pipes from the source each node is.
    fn distances(&self) -> Vec<Option<u32>> {
        let mut distances = vec![None; self.leaving.len()];
        distances[SOURCE] = Some(0);
        let mut queue = std::collections::VecDeque::from([(SOURCE, 0)]);
        while let Some((node, distance)) = queue.pop_front() {
            for pipe in self.leaving[node].iter().map(|number| &self.pipes[*number]) {
                if pipe.free > 0 && distances[pipe.to].is_none() {
                    distances[pipe.to] = Some(distance + 1);
                    queue.push_back((pipe.to, distance + 1));
                }
            }
        }
        distances
    }

    /// Sends one unit along pipes that lead one step further each. `next` is the first pipe of each node that may still do.
    fn send_unit(&mut self, distances: &[Option<u32>], next: &mut [usize]) -> bool {
        let mut path: Vec<usize> = Vec::new();
        let mut node = SOURCE;
        while node != SINK {
            let leaving = &self.leaving[node];
            let onward = distances[node].map(|distance| distance + 1);
            let is_good = |number: usize| self.pipes[number].free > 0 && distances[self.pipes[number].to] == onward;
            while next[node] < leaving.len() && !is_good(leaving[next[node]]) {
                next[node] += 1;
            }
            if let Some(number) = leaving.get(next[node]) {
                path.push(*number);
                node = self.pipes[*number].to;
            } else if let Some(number) = path.pop() {
                // A dead end: back, and never here again.
                node = self.pipes[number ^ 1].to;
                next[node] += 1;
            } else {
                return false;
            }
        }
        for number in path {
            self.pipes[number].free -= 1;
            self.pipes[number ^ 1].free += 1;
        }
        true
    }
}

/// How to read dirty users. Each user stands in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserPlan {
    /// One request each.
    pub by_id: Vec<UserId>,
    /// One search each, at most [`USERS_PER_SEARCH_MAX`] users. An answer without a user proves nothing about that user:
    /// the search index lags (facts 2.2, 11). Whoever is missing is to be read by id.
    pub batches: Vec<Vec<UserId>>,
}

/// By id up to [`USERS_PER_SEARCH_MAX`] users: that is authoritative (facts 11), and its rate-limit bucket is the largest (facts 6.2).
/// More than that, for instance after an import, by search; one left over is read by id at the same cost.
pub fn plan_users(dirty: &BTreeSet<UserId>) -> UserPlan {
    if dirty.len() <= USERS_PER_SEARCH_MAX {
        return UserPlan { by_id: dirty.iter().cloned().collect(), batches: Vec::new() };
    }
    let users: Vec<UserId> = dirty.iter().cloned().collect();
    let (alone, batches) = users.chunks(USERS_PER_SEARCH_MAX).partition::<Vec<_>, _>(|batch| batch.len() == 1);
    UserPlan { by_id: alone.concat(), batches: batches.into_iter().map(<[UserId]>::to_vec).collect() }
}

#[cfg(test)]
mod tests;
