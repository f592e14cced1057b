//! The webhook on a real API server: pods and ZenLocks come through admission, tokens are the API server's own (Z-02…Z-06).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails as the test does")]

mod deliver;
mod kube_objects;
mod planes;
mod pods;
mod stage;
mod unseal;
mod zenlocks;

use stage::Stage;

/// One control plane for all of it: it takes seconds to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zenlocks_on_a_real_api_server() {
    let stage = Stage::start().await;
    pods::admitted_as_the_annotations_ask(&stage).await;
    pods::refused_in_words_that_kubectl_shows(&stage).await;
    pods::only_annotated_pods_are_sent(&stage).await;
    unseal::a_pod_gets_what_it_was_admitted_for(&stage).await;
    unseal::stolen_and_stale_tokens_get_nothing(&stage).await;
    unseal::planes_ask_on_behalf_of_objects_that_name_the_zenlock(&stage).await;
    unseal::a_change_reaches_the_files_within_five_seconds(&stage).await;
    planes::a_webhook_verifies_with_a_zenlock_and_follows_it(&stage).await;
    planes::each_use_of_a_batch_is_judged_by_itself(&stage).await;
    planes::many_objects_cost_a_few_requests(&stage).await;
    zenlocks::what_nobody_could_open_is_not_stored(&stage).await;
    zenlocks::the_status_tells_which_keys_open_it_and_what_is_left_to_rotate(&stage).await;
    deliver::a_secret_lives_and_goes_with_its_pod(&stage).await;
    stage.end().await;
}
