//! Plans against the naive one, the greedy one of facts 12.2, and the optimum by trying everything.

use proptest::prelude::*;

use super::*;

const COSTS: Costs = Costs { app_users_page: 5, user_apps_page: 2 };

fn app(number: usize) -> AppId {
    AppId::new(&format!("0oa{number:04}")).unwrap()
}

fn user(number: usize) -> UserId {
    UserId::new(&format!("00u{number:04}")).unwrap()
}

fn pairs(numbers: &[(usize, usize)]) -> BTreeSet<(AppId, UserId)> {
    numbers.iter().map(|(a, u)| (app(*a), user(*u))).collect()
}

fn sizes(apps: &[(usize, u64)], users: &[(usize, u64)]) -> Sizes {
    Sizes {
        app_users: apps.iter().map(|(number, rows)| (app(*number), *rows)).collect(),
        user_apps: users.iter().map(|(number, rows)| (user(*number), *rows)).collect(),
    }
}

/// All pairs of the first so many apps and users.
fn all(apps: usize, users: usize) -> Vec<(usize, usize)> {
    (0..apps).flat_map(|a| (0..users).map(move |u| (a, u))).collect()
}

/// The plan as text, `list 1 walk 2 read 3:4`.
fn shown(plan: &PairPlan) -> String {
    let number = |id: &str| id[3..].parse::<usize>().unwrap();
    let apps = plan.apps.iter().map(|app| format!("list {}", number(app.as_str())));
    let users = plan.users.iter().map(|user| format!("walk {}", number(user.as_str())));
    let pairs = plan.pairs.iter();
    let pairs = pairs.map(|(app, user)| format!("read {}:{}", number(app.as_str()), number(user.as_str())));
    apps.chain(users).chain(pairs).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_cheapest_form_is_taken() {
    #[track_caller]
    fn check(dirty: &[(usize, usize)], sizes: &Sizes, expected: &str) {
        assert_eq!(shown(&plan_pairs(&pairs(dirty), sizes, COSTS)), expected);
    }
    let unknown = Sizes::default();
    check(&[], &unknown, "");
    check(&[(1, 1)], &unknown, "read 1:1");
    check(&[(1, 1), (2, 2)], &unknown, "read 1:1 read 2:2");
    // A group was assigned to an app: one page lists them all.
    check(&[(1, 1), (1, 2), (1, 3)], &unknown, "list 1");
    check(&[(1, 1), (1, 2), (1, 3)], &sizes(&[(1, 10)], &[]), "list 1");
    // Three pages for three pairs save nothing.
    check(&[(1, 1), (1, 2), (1, 3)], &sizes(&[(1, 11)], &[]), "read 1:1 read 1:2 read 1:3");
    // Somebody was given many apps.
    check(&[(1, 1), (2, 1), (3, 1)], &unknown, "walk 1");
    check(&[(1, 1), (2, 1), (3, 1)], &sizes(&[], &[(1, 5)]), "read 1:1 read 2:1 read 3:1");
    // Two were: apps first would list each of the four.
    check(&all(4, 2), &unknown, "walk 0 walk 1");
    check(&all(2, 4), &unknown, "list 0 list 1");
    // Both at once, and a pair that belongs to neither.
    check(&[(1, 1), (1, 2), (1, 3), (2, 9), (3, 9), (4, 9), (5, 5)], &unknown, "list 1 walk 9 read 5:5");
    // What one list covers does not count for another: the walk of user 1 has but one pair left.
    check(&[(1, 1), (1, 2), (1, 3), (2, 1)], &unknown, "list 1 read 2:1");
    // A list of no rows is one page; so is a page size of zero.
    check(&[(1, 1), (1, 2)], &sizes(&[(1, 0)], &[]), "list 1");
    let no_page = Costs { app_users_page: 0, user_apps_page: 0 };
    assert_eq!(shown(&plan_pairs(&pairs(&[(1, 1), (1, 2)]), &unknown, no_page)), "list 1");
}

#[test]
fn costs_count_pages() {
    let sizes = sizes(&[(1, 11)], &[(1, 4)]);
    let plan = PairPlan { apps: vec![app(1), app(2)], users: vec![user(1)], pairs: vec![(app(3), user(3))] };
    assert_eq!(plan.cost(&sizes, COSTS), 3 + 1 + 2 + 1);
    for (pair, expected) in [((1, 9), true), ((9, 1), true), ((3, 3), true), ((3, 4), false), ((9, 9), false)] {
        assert_eq!(plan.covers(&(app(pair.0), user(pair.1))), expected, "{pair:?}");
    }
}

#[test]
fn only_what_could_pay_is_counted() {
    let (apps, users) = sizes_wanted(&pairs(&[(1, 1), (1, 2), (1, 3), (2, 3), (3, 4)]), COSTS);
    assert_eq!(apps, [(app(1), 15)]);
    assert_eq!(users, [(user(3), 4)]);
    assert_eq!(sizes_wanted(&BTreeSet::new(), COSTS), (Vec::new(), Vec::new()));
}

#[test]
fn many_pairs_are_planned_in_portions() {
    // 300 apps of 200 users are more than one portion holds; every app is listed once, also the one on the border.
    let dirty = pairs(&all(300, 200));
    assert!(dirty.len() > PAIRS_AT_ONCE_MAX);
    let of_two_pages: Vec<(usize, u64)> = (0..300).map(|number| (number, 10)).collect();
    let of_many_pages: Vec<(usize, u64)> = (0..200).map(|number| (number, 1_000)).collect();
    let sizes = sizes(&of_two_pages, &of_many_pages);
    let plan = plan_pairs(&dirty, &sizes, COSTS);
    assert_eq!((plan.apps.len(), plan.users.len(), plan.pairs.len()), (300, 0, 0));
    assert_eq!(plan.cost(&sizes, COSTS), 600);
}

#[test]
fn a_later_portion_may_cover_what_a_former_one_reads() {
    // The first portion ends with the pairs of app 1: of user 0 it sees a single pair and reads it by itself; the second
    // portion walks the user.
    let mut dirty = pairs(&[(0, 0)]);
    dirty.extend((0..PAIRS_AT_ONCE_MAX - 1).map(|number| (app(1), UserId::new(&format!("00v{number}")).unwrap())));
    dirty.extend([(app(2), user(0)), (app(3), user(0))]);
    assert_eq!(shown(&plan_pairs(&dirty, &Sizes::default(), COSTS)), "list 1 walk 0");
}

/// Facts 12.2 to the letter: apps that save something, then users, then the rest.
fn greedy_cost(dirty: &BTreeSet<(AppId, UserId)>, sizes: &Sizes) -> u64 {
    let (mut left, mut cost) = (dirty.clone(), 0);
    let apps: BTreeSet<AppId> = dirty.iter().map(|(app, _)| app.clone()).collect();
    for app in apps {
        let count = left.iter().filter(|pair| pair.0 == app).count() as u64;
        if count > sizes.app_requests(&app, COSTS) {
            cost += sizes.app_requests(&app, COSTS);
            left.retain(|pair| pair.0 != app);
        }
    }
    let users: BTreeSet<UserId> = left.iter().map(|(_, user)| user.clone()).collect();
    for user in users {
        let count = left.iter().filter(|pair| pair.1 == user).count() as u64;
        if count > sizes.user_requests(&user, COSTS) {
            cost += sizes.user_requests(&user, COSTS);
            left.retain(|pair| pair.1 != user);
        }
    }
    cost + left.len() as u64
}

/// The least cost, by trying every set of apps and users.
fn least_cost(dirty: &BTreeSet<(AppId, UserId)>, sizes: &Sizes, side: usize) -> u64 {
    let chosen = |bits: usize| (0..side).filter(move |number| bits & (1 << number) != 0);
    let plans = all(1 << side, 1 << side).into_iter().map(|(app_bits, user_bits)| {
        let mut plan = PairPlan {
            apps: chosen(app_bits).map(app).collect(),
            users: chosen(user_bits).map(user).collect(),
            pairs: Vec::new(),
        };
        plan.pairs = dirty.iter().filter(|pair| !plan.is_listed(pair)).cloned().collect();
        plan.cost(sizes, COSTS)
    });
    plans.min().unwrap()
}

/// A world of `side` apps and users: which of their pairs are dirty, and how long the lists are.
fn world(side: usize) -> impl Strategy<Value = (BTreeSet<(AppId, UserId)>, Sizes)> {
    let dirty = proptest::collection::btree_set((0..side, 0..side), 0..=side * side);
    let rows = move |max: u64| proptest::collection::btree_map(0..side, 0..max, 0..=side);
    (dirty, rows(30), rows(12)).prop_map(|(dirty, app_rows, user_rows)| {
        let dirty: Vec<_> = dirty.into_iter().collect();
        let (app_rows, user_rows): (Vec<_>, Vec<_>) = (app_rows.into_iter().collect(), user_rows.into_iter().collect());
        (pairs(&dirty), sizes(&app_rows, &user_rows))
    })
}

proptest! {
    #[test]
    fn no_plan_is_cheaper((dirty, sizes) in world(4)) {
        prop_assert_eq!(plan_pairs(&dirty, &sizes, COSTS).cost(&sizes, COSTS), least_cost(&dirty, &sizes, 4));
    }

    #[test]
    fn everything_is_covered_and_nothing_is_dearer_than_simpler_plans((dirty, sizes) in world(12)) {
        let plan = plan_pairs(&dirty, &sizes, COSTS);
        let cost = plan.cost(&sizes, COSTS);
        prop_assert!(dirty.iter().all(|pair| plan.covers(pair)));
        prop_assert!(plan.pairs.iter().all(|pair| dirty.contains(pair) && !plan.is_listed(pair)));
        let apps: BTreeSet<&AppId> = dirty.iter().map(|(app, _)| app).collect();
        let users: BTreeSet<&UserId> = dirty.iter().map(|(_, user)| user).collect();
        prop_assert!(cost <= dirty.len() as u64);
        prop_assert!(cost <= apps.iter().map(|app| sizes.app_requests(app, COSTS)).sum());
        prop_assert!(cost <= users.iter().map(|user| sizes.user_requests(user, COSTS)).sum());
        prop_assert!(cost <= greedy_cost(&dirty, &sizes));
        // Each list saves something: without it more requests would be needed, not as many.
        for app in &plan.apps {
            let alone = dirty.iter().filter(|pair| pair.0 == *app && plan.users.binary_search(&pair.1).is_err());
            prop_assert!(alone.count() as u64 > sizes.app_requests(app, COSTS));
        }
        for user in &plan.users {
            let alone = dirty.iter().filter(|pair| pair.1 == *user && plan.apps.binary_search(&pair.0).is_err());
            prop_assert!(alone.count() as u64 > sizes.user_requests(user, COSTS));
        }
    }

    #[test]
    fn rows_beyond_the_cap_change_nothing((dirty, sizes) in world(8)) {
        let (apps, users) = sizes_wanted(&dirty, COSTS);
        let rows = |known: Option<&u64>, cap: u64| known.copied().unwrap_or_default().min(cap);
        let capped = Sizes {
            app_users: apps.into_iter().map(|(app, cap)| { let known = rows(sizes.app_users.get(&app), cap); (app, known) }).collect(),
            user_apps: users.into_iter().map(|(user, cap)| { let known = rows(sizes.user_apps.get(&user), cap); (user, known) }).collect(),
        };
        prop_assert_eq!(plan_pairs(&dirty, &capped, COSTS), plan_pairs(&dirty, &sizes, COSTS));
    }

    #[test]
    fn every_user_is_read_once(count in 0_usize..230) {
        let dirty: BTreeSet<UserId> = (0..count).map(user).collect();
        let UserPlan { by_id, batches } = plan_users(&dirty);
        let planned: Vec<UserId> = by_id.iter().cloned().chain(batches.concat()).collect();
        prop_assert_eq!(planned.len(), count);
        prop_assert_eq!(planned.into_iter().collect::<BTreeSet<_>>(), dirty);
        prop_assert!(batches.iter().all(|batch| (2..=USERS_PER_SEARCH_MAX).contains(&batch.len())));
        prop_assert!((by_id.len() + batches.len()) <= count.min(USERS_PER_SEARCH_MAX.max(count.div_ceil(USERS_PER_SEARCH_MAX))));
    }
}

#[test]
fn many_users_are_searched_for() {
    #[track_caller]
    fn check(count: usize, by_id: usize, batches: &[usize]) {
        let plan = plan_users(&(0..count).map(user).collect());
        let sizes: Vec<usize> = plan.batches.iter().map(Vec::len).collect();
        assert_eq!((plan.by_id.len(), sizes.as_slice()), (by_id, batches), "{count}");
    }
    check(0, 0, &[]);
    check(1, 1, &[]);
    check(50, 50, &[]);
    check(51, 1, &[50]);
    check(52, 0, &[50, 2]);
    check(150, 0, &[50, 50, 50]);
}

#[test]
fn the_greedy_plan_of_the_facts_is_far_off_when_two_users_get_many_apps() {
    let dirty = pairs(&all(100, 2));
    let sizes = sizes(&[], &[(0, 2), (1, 2)]);
    assert_eq!(greedy_cost(&dirty, &sizes), 100);
    assert_eq!(plan_pairs(&dirty, &sizes, COSTS).cost(&sizes, COSTS), 2);
}
