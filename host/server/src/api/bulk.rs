//! Many items in one request: a stream of JSON documents, one for each line. It is read while it arrives, and
//! written in portions, each in a transaction of its own. So an early portion stays when a later line is refused.

use std::error::Error;
use std::iter::successors;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::StatusCode;
use domain::job::JobSpec;
use domain::limits::MIB;
use domain::runner::FoundItem;
use futures_util::StreamExt;
use futures_util::future::try_join;
use serde::{Deserialize, Serialize};
use store::items::enqueue::Enqueued;

use super::authentication::Actor;
use super::jobs::{AddItem, check_item};
use super::lines::Lines;
use super::waits;
use crate::http::{ApiError, LINE_BYTES_MAX, TooSlow};
use crate::state::AppState;

/// Items of one transaction.
const PORTION_ITEMS_MAX: usize = 5_000;
/// Payload bytes from which a portion is complete: those of one statement of the store.
const PORTION_BYTES: usize = MIB;

/// Adds the items of all lines. While a portion is written, the next one is read.
pub async fn add(state: &AppState, job: &JobSpec, actor: &Actor, body: Body) -> Result<AddedItems, ApiError> {
    let mut reader = Reader { state, job, body: body.into_data_stream(), lines: Lines::default(), line: 0 };
    let mut done = Done::default();
    let (mut portion, mut end) = reader.portion().await;
    loop {
        if let End::Refused(error) = end {
            return Err(error.with_more(&done.sentence()));
        }
        let next = async {
            match &end {
                End::Full => Ok(Some(reader.portion().await)),
                End::Body | End::Refused(_) => Ok(None),
            }
        };
        // A write that fails ends the reading, too.
        let ended = try_join(write(state, job, actor, &portion), next).await;
        let (counts, next) = ended.map_err(|error| error.with_more(&done.sentence()))?;
        done = Done { counts: done.counts + counts, lines: portion.last_line };
        let Some(next) = next else { break };
        (portion, end) = next;
    }
    let Enqueued { added, reopened, kept } = done.counts;
    let waits = waits::of(state, job.name.as_str()).await?;
    Ok(AddedItems { added, reopened, kept, waits })
}

async fn write(
    state: &AppState,
    job: &JobSpec,
    actor: &Actor,
    portion: &Portion,
) -> Result<Enqueued, ApiError> {
    if portion.items.is_empty() {
        return Ok(Enqueued::default());
    }
    let written = state.store.items().add_portion(job, &portion.items, &actor.0, state.clock.now()).await?;
    written.ok_or_else(|| {
        let (name, most) = (&job.name, job.limits.items_open);
        let detail = format!(
            "lines {} to {}: job {name} may have at most {most} open items; send them when others are done, or raise \
            limits.items_open",
            portion.first_line, portion.last_line
        );
        ApiError::new(StatusCode::CONFLICT, "too-many-open-items", detail)
    })
}

/// The portions that are in the store.
#[derive(Default)]
struct Done {
    counts: Enqueued,
    /// Their last line.
    lines: u64,
}

impl Done {
    fn sentence(&self) -> String {
        let Enqueued { added, reopened, kept } = self.counts;
        match self.lines {
            0 => "no item was added".to_owned(),
            lines => format!(
                "the items of lines 1 to {lines} are in the store ({added} added, {reopened} reopened, {kept} kept): \
                continue after them, or send all again: an item that is open is kept"
            ),
        }
    }
}

/// Items of consecutive lines.
#[derive(Default)]
struct Portion {
    items: Vec<FoundItem>,
    bytes: usize,
    first_line: u64,
    last_line: u64,
}

impl Portion {
    fn is_full(&self) -> bool {
        self.items.len() >= PORTION_ITEMS_MAX || self.bytes >= PORTION_BYTES
    }
}

/// Why a portion ends.
enum End {
    Full,
    Body,
    /// A line, or the body itself, is not usable.
    Refused(ApiError),
}

struct Reader<'a> {
    state: &'a AppState,
    job: &'a JobSpec,
    body: BodyDataStream,
    lines: Lines,
    /// The number of the last line that was read; the first line is 1.
    line: u64,
}

impl Reader<'_> {
    async fn portion(&mut self) -> (Portion, End) {
        let mut portion = Portion { first_line: self.line + 1, ..Portion::default() };
        let end = self.fill(&mut portion).await.unwrap_or_else(End::Refused);
        portion.last_line = self.line;
        (portion, end)
    }

    async fn fill(&mut self, portion: &mut Portion) -> Result<End, ApiError> {
        loop {
            while let Some(line) = self.lines.next() {
                self.line += 1;
                self.take(&line, portion)?;
                if portion.is_full() {
                    return Ok(End::Full);
                }
            }
            if self.lines.started() > LINE_BYTES_MAX {
                return Err(self.too_long());
            }
            let Some(bytes) = self.more().await? else { break };
            self.lines.push(bytes);
        }
        // The last line need not have an end.
        if let Some(line) = self.lines.rest() {
            self.line += 1;
            self.take(&line, portion)?;
        }
        Ok(End::Body)
    }

    fn take(&self, line: &[u8], portion: &mut Portion) -> Result<(), ApiError> {
        if line.len() > LINE_BYTES_MAX {
            return Err(too_long(self.line));
        }
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let item =
            parse(self.job, line).map_err(|why| ApiError::bad_body(format!("line {}: {why}", self.line)))?;
        portion.bytes += item.payload.len();
        portion.items.push(item);
        Ok(())
    }

    /// The next bytes of the body; `None` at its end.
    async fn more(&mut self) -> Result<Option<Bytes>, ApiError> {
        let more = tokio::select! {
            more = self.body.next() => more,
            () = self.state.stopping.cancelled() => {
                let detail = "the host stops: send the request again in a moment";
                return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail));
            }
        };
        more.transpose().map_err(|error| match slow(&error) {
            Some(slow) => ApiError::from(slow),
            None => ApiError::bad_body(format!("the body ended in line {}: {error}", self.line + 1)),
        })
    }

    fn too_long(&self) -> ApiError {
        too_long(self.line + 1)
    }
}

/// The error, or a cause of it, that means a slow client.
fn slow<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TooSlow> {
    successors(Some(error), |error| (*error).source()).find_map(|error| error.downcast_ref())
}

fn too_long(line: u64) -> ApiError {
    let detail = format!("line {line}: a line has at most {LINE_BYTES_MAX} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
}

fn parse(job: &JobSpec, line: &[u8]) -> Result<FoundItem, String> {
    let AddItem { key, payload } = serde_json::from_slice(line).map_err(|error| {
        // Its own line is always the first.
        let (text, column) = (error.to_string(), error.column());
        let place = format!(" at line {} column {column}", error.line());
        format!("{} at column {column}", text.strip_suffix(&place).unwrap_or(&text))
    })?;
    check_item(job, &key, &payload)?;
    Ok(FoundItem { key, payload })
}

/// The response to a stream of items: the number of lines with each result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddedItems {
    pub added: u64,
    /// They were resolved, and start again with the new payload.
    pub reopened: u64,
    /// They are open or wait for a person: the new payload was dropped.
    pub kept: u64,
    /// Why no attempt of them starts now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}
