//! Repeats a Postgres transaction that was rolled back because of a conflict with another one (a
//! serialization failure or a deadlock). The transaction begins again and repeats its earlier statements. If
//! their results are the same, the caller continues and sees no difference; if not, it gets the error.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use domain::plugin::ParamType;
use domain::scope::Value;
use sqlx::{Postgres, SqlSafeStr, SqlStr, Transaction};
use uuid::Uuid;

use super::server::Server;
use super::{Bound, Most, Row, postgres, round_trips};
use crate::error::{NoConnection, is_contention};

/// Maximum number of repetitions of one transaction.
const AGAIN_MAX: u32 = 10;
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(320);
/// Maximum size of the statements that are kept for a repetition. A larger transaction fails with the error.
const REMEMBERED_BYTES_MAX: usize = 8 << 20;

pub struct PgTx {
    /// `None` if the transaction could not begin again.
    tx: Option<Transaction<'static, Postgres>>,
    server: Server,
    begin: String,
    writes: bool,
    done: Vec<(Step, u64)>,
    bytes: usize,
    repeats: bool,
    left: u32,
}

/// One statement of a transaction.
pub enum Step {
    Fetch(SqlStr, Vec<Bound>, Most),
    Execute(SqlStr, Vec<Bound>),
    /// A statement without arguments and without a result.
    Control(SqlStr),
}

pub enum StepResult {
    Rows(Vec<Row>),
    Changed(u64),
    Done,
}

impl PgTx {
    pub async fn begin(server: &Server, begin: String, writes: bool) -> Result<PgTx, sqlx::Error> {
        let tx = Some(server.begin(begin.clone()).await?);
        let (server, done) = (server.clone(), Vec::new());
        Ok(PgTx { tx, server, begin, writes, done, bytes: 0, repeats: true, left: AGAIN_MAX })
    }

    pub async fn fetch(
        &mut self,
        sql: impl SqlSafeStr,
        args: Vec<Bound>,
        most: Most,
    ) -> Result<Vec<Row>, sqlx::Error> {
        match self.run(Step::Fetch(sql.into_sql_str(), args, most)).await? {
            StepResult::Rows(rows) => Ok(rows),
            StepResult::Changed(_) | StepResult::Done => Ok(Vec::new()),
        }
    }

    pub async fn execute(&mut self, sql: impl SqlSafeStr, args: Vec<Bound>) -> Result<u64, sqlx::Error> {
        match self.run(Step::Execute(sql.into_sql_str(), args)).await? {
            StepResult::Changed(changed) => Ok(changed),
            StepResult::Rows(_) | StepResult::Done => Ok(0),
        }
    }

    pub async fn control(&mut self, sql: impl SqlSafeStr) -> Result<(), sqlx::Error> {
        self.run(Step::Control(sql.into_sql_str())).await.map(|_| ())
    }

    /// Prepares a declared statement without running it.
    pub async fn check(&mut self, sql: &str, declared: Option<&[ParamType]>) -> Result<(), sqlx::Error> {
        let tx = self.tx.as_mut().ok_or_else(gone)?;
        self.server.answered(self.writes, postgres::check(tx, sql, declared)).await
    }

    /// Stops repetitions: from here on the transaction has to end in time.
    pub fn ends_now(&mut self) {
        self.repeats = false;
    }

    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        loop {
            let tx = self.tx.take().ok_or_else(gone)?;
            round_trips::count();
            match self.server.answered(self.writes, tx.commit()).await {
                Err(error) if self.may_repeat(&error) => self.again(error).await?,
                ended => return ended,
            }
        }
    }

    pub async fn rollback(mut self) -> Result<(), sqlx::Error> {
        match self.tx.take() {
            Some(tx) => self.server.answered(self.writes, tx.rollback()).await,
            None => Ok(()),
        }
    }

    async fn run(&mut self, step: Step) -> Result<StepResult, sqlx::Error> {
        loop {
            let tx = self.tx.as_mut().ok_or_else(gone)?;
            match self.server.answered(self.writes, step.run(tx)).await {
                Ok(answer) => {
                    self.remember(step, &answer);
                    return Ok(answer);
                }
                Err(error) if self.may_repeat(&error) => self.again(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    fn remember(&mut self, step: Step, answer: &StepResult) {
        self.bytes += step.bytes();
        self.repeats &= self.bytes <= REMEMBERED_BYTES_MAX;
        if self.repeats {
            self.done.push((step, answer.digest()));
        } else {
            self.done.clear();
        }
    }

    fn may_repeat(&self, error: &sqlx::Error) -> bool {
        self.repeats && self.left > 0 && is_contention(error)
    }

    /// Begins again and repeats the earlier statements. Returns `error` if that is not possible.
    async fn again(&mut self, mut error: sqlx::Error) -> Result<(), sqlx::Error> {
        while self.may_repeat(&error) {
            self.left -= 1;
            if let Some(tx) = self.tx.take() {
                self.server.answered(self.writes, tx.rollback()).await?;
            }
            tokio::time::sleep(pause(AGAIN_MAX - self.left)).await;
            let mut tx = self.server.begin(self.begin.clone()).await?;
            match replay(&self.server, &mut tx, &self.done, self.writes).await {
                Ok(true) => {
                    self.tx = Some(tx);
                    return Ok(());
                }
                Ok(false) => return Err(error),
                Err(other) => error = other,
            }
        }
        Err(error)
    }
}

/// Runs the statements again. Returns whether all results are the same as before.
async fn replay(
    server: &Server,
    tx: &mut Transaction<'static, Postgres>,
    done: &[(Step, u64)],
    writes: bool,
) -> Result<bool, sqlx::Error> {
    for (step, digest) in done {
        if server.answered(writes, step.run(tx)).await?.digest() != *digest {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Step {
    async fn run(&self, tx: &mut Transaction<'static, Postgres>) -> Result<StepResult, sqlx::Error> {
        match self {
            Step::Fetch(sql, args, most) => {
                postgres::fetch(tx, sql.clone(), args, *most).await.map(StepResult::Rows)
            }
            Step::Execute(sql, args) => {
                postgres::execute(tx, sql.clone(), args).await.map(StepResult::Changed)
            }
            Step::Control(sql) => {
                sqlx::raw_sql(sql.clone()).execute(&mut **tx).await.map(|_| StepResult::Done)
            }
        }
    }

    fn bytes(&self) -> usize {
        let (sql, args): (_, &[Bound]) = match self {
            Step::Fetch(sql, args, _) | Step::Execute(sql, args) => (sql, args),
            Step::Control(sql) => (sql, &[]),
        };
        sql.as_str().len() + args.iter().map(Bound::bytes).sum::<usize>()
    }
}

impl StepResult {
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match self {
            StepResult::Rows(rows) => {
                rows.len().hash(&mut hasher);
                rows.iter().flat_map(Row::values).for_each(|value| digest(value, &mut hasher));
            }
            StepResult::Changed(number) => number.hash(&mut hasher),
            StepResult::Done => {}
        }
        hasher.finish()
    }
}

fn digest(value: &Value, hasher: &mut DefaultHasher) {
    std::mem::discriminant(value).hash(hasher);
    match value {
        Value::Null => {}
        Value::Boolean(truth) => truth.hash(hasher),
        Value::Integer(number) => number.hash(hasher),
        Value::Real(number) => number.to_bits().hash(hasher),
        Value::Text(text) => text.hash(hasher),
        Value::Blob(bytes) => bytes.hash(hasher),
    }
}

/// Doubles with each repetition, half of it random, so that two conflicting transactions do not meet again.
pub fn pause(number: u32) -> Duration {
    let most = PAUSE_MIN.saturating_mul(1 << number.min(6)).min(PAUSE_MAX);
    let chance = f64::from(Uuid::new_v4().as_bytes()[0]) / 255.0;
    most.mul_f64(0.5 + chance / 2.0)
}

fn gone() -> sqlx::Error {
    NoConnection("the transaction was undone, and could not begin again".to_owned()).into()
}
