//! Real hosts are killed at any moment: nothing is lost or done twice. The state is read from the databases,
//! and the items' own table has no unique key that could help.

mod checks;
mod copies;
mod hosts;
mod kills;
mod site;
mod stop;
mod takeover;
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
async fn r8_the_work_of_a_killed_host_moves_within_seconds() {
    needs!(Product, Postgres);
    takeover::r8_the_work_of_a_killed_host_moves_within_seconds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_host_keeps_its_work_until_its_lease_ends() {
    needs!(Product, Postgres);
    takeover::a_stopped_host_keeps_its_work_until_its_lease_ends().await;
}

/// A server of its own is restarted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_end_move_no_work() {
    needs!(Product, PostgresPrograms);
    takeover::sessions_that_end_move_no_work().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_separates_no_two_commits_on_the_hosts_own_postgres() {
    needs!(Product);
    the_hosts_own_postgres_commits_both_at_once().await;
}
