//! A search that more entries match than are looked at, all the way: from the index over a server to what is printed.
//!
//! The index has some thousand entries and not a hundred thousand: its reader goes less far ([`okta_idmap_index::Reader::within`]).

use std::collections::BTreeSet;

use okta_idmap::serve::SearchHandle;
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::search_client::SearchClient;

use super::follow::Hosted;
use super::harness::Place;
use super::store::fill_many;

/// People who share a word.
const PEOPLE: usize = 2_500;
/// Not enough to look at all of them, and enough for several pages.
const STEPS: u64 = 8_000;

/// The first pages of a search, as the server tells them.
async fn pages(url: &str, facet_fields: &[v1::FacetField]) -> Vec<v1::SearchResponse> {
    let mut client = SearchClient::connect(url.to_owned()).await.unwrap();
    let mut request = v1::SearchRequest {
        query: "many".to_owned(),
        kinds: vec![v1::RowKind::User.into()],
        facet_fields: facet_fields.iter().map(|field| (*field).into()).collect(),
        page_size: 40,
        ..Default::default()
    };
    let mut pages = Vec::new();
    loop {
        let page = client.search(request.clone()).await.unwrap().into_inner();
        request.page_token = page.next_page_token.clone();
        pages.push(page);
        if request.page_token.is_empty() || pages.len() == 3 {
            return pages;
        }
    }
}

fn user_ids(pages: &[v1::SearchResponse]) -> Vec<String> {
    let hits = pages.iter().flat_map(|page| &page.hits);
    hits.map(|hit| match hit.row.as_ref().unwrap() {
        v1::search_hit::Row::User(user) => user.id.clone(),
        row => panic!("no user: {row:?}"),
    })
    .collect()
}

#[test]
fn a_search_that_looks_at_a_part_says_so() {
    let place = Place::with_org();
    fill_many(place.path(), PEOPLE);
    let index = okta_idmap_index::open_read_only(&place.path().join("okta-idmap-data/acme/index")).unwrap();
    let search = SearchHandle::new(Some(index.clone()));
    let hosted = Hosted::start_with(place.path(), search.clone());
    let url = hosted.url();
    let printed =
        |limit: &str| place.run(&["search", "many", "--kind", "user", "--limit", limit, "-o", "csv", "--server", &url]);

    let whole = hosted.block_on(pages(&url, &[]));
    assert!(whole.iter().all(|page| (page.total_count, page.is_lower_bound) == (PEOPLE as u64, false)));
    printed("10").assert(0, "00umany", "\n2500 in all\n");

    search.set(Some(index.within(STEPS)));
    let part = hosted.block_on(pages(&url, &[]));
    let total = part[0].total_count;
    assert!((120..PEOPLE as u64).contains(&total), "{total}");
    // The same part for every page, so that they join up.
    assert!(part.iter().all(|page| (page.total_count, page.is_lower_bound) == (total, true)));
    let ids = user_ids(&part);
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (120, 120));
    let ran = printed("110");
    ran.assert(0, "00umany", &format!("\nat least {total} in all\n"));
    let lines: Vec<&str> = ran.out.lines().skip(1).collect();
    assert_eq!(lines.len(), 110);
    assert!(lines.iter().zip(&ids).all(|(line, id)| line.contains(id.as_str())), "{ran:?}");

    // Counting costs steps, too; nothing is counted that was not looked at.
    for page in hosted.block_on(pages(&url, &[v1::FacetField::Kind])) {
        let counts = page.facets.iter().flat_map(|facet| &facet.counts).map(|count| count.hit_count);
        assert!(page.is_lower_bound && page.total_count < total, "{} of {total}", page.total_count);
        let counted: u64 = counts.sum();
        assert!((1..=page.total_count).contains(&counted), "{counted} of {}", page.total_count);
    }

    // What few match is looked at in full, and a name is not lost among those who share a word.
    place.run(&["search", "ada", "--kind", "user", "--server", &url]).assert(0, "00u1", "\n1 in all\n");
    hosted.stop();
}
