//! The request path of the common presets asks the allocator for nothing.

use zen_verify::Verifier;

use crate::fixture::{NOW, ways};

#[test]
fn hmac_presets_allocate_nothing() {
    for name in
        ["github", "gitlab token", "stripe", "slack", "shopify", "standard v1", "bitbucket", "pagerduty", "bearer"]
    {
        let way = ways().into_iter().find(|way| way.name == name).expect("a way");
        let verifier = Verifier::compile(way.verifying(&[1, 0])).expect("compiles");
        let delivery = way.delivery(NOW);
        let mut result = None;
        let count = allocation_counter::measure(|| result = Some(delivery.verify(&verifier, NOW)));
        assert_eq!(result, Some(Ok(1)), "{name}");
        assert_eq!(count.count_total, 0, "{name}");
    }
}
