//! Real hosts are killed at any moment: nothing is lost or done twice. The state is read from the databases,
//! and the items' own table has no unique key that could help.

mod checks;
mod copies;
mod hosts;
mod kills;
mod site;
mod stop;
mod wallet;

use hosts::r8_every_process_killed_every_item_done_once;
use kills::{r2_r3_kill_nine_loses_nothing_and_repeats_nothing, the_hosts_own_postgres_commits_both_at_once};
use stop::s1_a_stop_by_sigterm_puts_work_back_uncounted;
use test_support::{needs, on_both};
use wallet::w8_a_crash_between_the_two_commits_sends_one_session;

on_both!(
    r2_r3_kill_nine_loses_nothing_and_repeats_nothing,
    w8_a_crash_between_the_two_commits_sends_one_session,
    s1_a_stop_by_sigterm_puts_work_back_uncounted,
);

/// Several processes on one store need Postgres.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_beside_its_host_is_refused() {
    needs!(Product);
    copies::a_copy_beside_its_host_is_refused().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_id_was_taken_over_ends() {
    needs!(Product);
    copies::a_host_whose_id_was_taken_over_ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_host_starts_at_once_in_its_folder() {
    needs!(Product);
    copies::a_killed_host_starts_at_once_in_its_folder().await;
}

/// Many hosts need Postgres.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r8_every_process_killed_every_item_done_once_on_postgres() {
    needs!(Product);
    r8_every_process_killed_every_item_done_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_separates_no_two_commits_on_the_hosts_own_postgres() {
    needs!(Product);
    the_hosts_own_postgres_commits_both_at_once().await;
}
