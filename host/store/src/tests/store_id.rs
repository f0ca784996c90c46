//! A data folder remembers its store, and refuses a different one.

use tempfile::TempDir;
use test_support::{Kind, execute, on_both};

use super::support::{T, config};
use crate::opening::schema::Opening;
use crate::opening::store_id::{Remembered, remember};
use crate::{Store, StoreError};

on_both! {
    a_store_keeps_its_id,
    another_store_is_refused,
    backup_without_an_id_gets_the_remembered_id,
}

fn remembered(id: &str) -> (TempDir, Remembered) {
    let folder = tempfile::tempdir().unwrap();
    assert!(Remembered::of(folder.path()).unwrap().is_none());
    remember(folder.path(), id).unwrap();
    remember(folder.path(), id).unwrap();
    let known = Remembered::of(folder.path()).unwrap().unwrap();
    (folder, known)
}

async fn open(t: &T, known: &Remembered) -> Result<Store, StoreError> {
    Store::open_known(&config(&t.url, &t.shop_url), Opening::UPGRADE, Some(known)).await
}

async fn a_store_keeps_its_id(t: T) {
    let (_folder, known) = remembered(t.store.id());
    t.store.close().await;
    let store = open(&t, &known).await.unwrap();
    assert_eq!(store.id(), t.store.id());
    store.close().await;
}

async fn another_store_is_refused(t: T) {
    let before = t.everything().await;
    let (_folder, known) = remembered("0190aaaa-0000-7000-8000-000000000000");
    let error = open(&t, &known).await.err().unwrap();
    assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
    let said = error.to_string();
    for part in [t.store.id(), "0190aaaa-0000-7000-8000-000000000000", "check store.url", "store-id"] {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
    assert_eq!(t.everything().await, before);
}

async fn backup_without_an_id_gets_the_remembered_id(t: T) {
    if t.kind == Kind::Sqlite {
        t.store.close().await;
    }
    execute(
        &t.url,
        match t.kind {
            Kind::Sqlite => "DROP TABLE store_identity; DELETE FROM _sqlx_migrations WHERE version = 19",
            Kind::Postgres => {
                "DROP TABLE tidemill.store_identity; DELETE FROM tidemill._sqlx_migrations WHERE version = 19"
            }
        },
    )
    .await;
    let (_folder, known) = remembered("0190aaaa-0000-7000-8000-000000000000");
    let store = open(&t, &known).await.unwrap();
    assert_eq!(store.id(), "0190aaaa-0000-7000-8000-000000000000");
    store.close().await;
}
