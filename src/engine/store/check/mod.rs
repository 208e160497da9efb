//! What a store can do, found out by trying, before there is data in it.
//!
//! Stores that speak one protocol differ in what they do with it. The one thing that Flightline cannot do without is
//! a put that is refused if the object exists: the catalog's order rests on it. A store that takes such a put and
//! overwrites all the same looks fine until two processes meet.
//!
//! Always true: only objects below a directory of its own are touched, and they are removed in the end, however the
//! check ends.
//!
//! Not here: how the findings are shown (`cli`).

use std::time::Duration;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use parking_lot::Mutex;

use super::{Store, paths};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

/// How many creators race for each object, and for how many objects. A store that lets two of them win does so in
/// a good part of the races, so that a few tell.
const CREATORS: usize = 8;
const RACES: usize = 16;

/// Objects of which a listing is asked for.
const LISTED: usize = 5;

/// How often a listing that lacks an object is asked for again, and after which pause.
const LISTINGS_MAX: usize = 10;
const LISTING_PAUSE: Duration = Duration::from_millis(500);

/// Requests of each kind whose median time is shown.
const TIMED_REQUESTS: usize = 21;

/// Bytes of the objects that are put and got.
const OBJECT_BYTES: usize = 4096;

/// Whether Flightline works with a store that lacks a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// No.
    Required,
    /// Only with a single writer, see [`super::single_writer`].
    RequiredForSeveralWriters,
    /// Only with several writers: a single one keeps a lock fresh with it.
    RequiredForSingleWriter,
    /// Yes.
    Optional,
}

/// What was found out about one capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was tried, in a few words.
    pub capability: &'static str,
    /// Whether it has to work.
    pub need: Need,
    /// What was seen; as an error, why that won't do.
    pub outcome: Result<String, String>,
}

/// What the findings come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything works that has to.
    Usable,
    /// Usable by a single writer, see [`super::single_writer`].
    SingleWriterOnly,
    /// Something is missing, and there is no way around it.
    Unusable,
}

/// Tries everything out; `report` hears of each finding as it is made. Where nothing can be
/// put, the rest is not tried.
pub async fn check(store: &Store, clock: &dyn Clock, report: &mut (dyn FnMut(&Finding) + Send)) -> Verdict {
    let scratch = Scratch::new(store.objects().as_ref(), clock);
    let mut verdict = Verdict::Usable;
    let mut tell = |capability, need, outcome: Result<String, Missing>| {
        let finding = Finding { capability, need, outcome: outcome.map_err(|missing| missing.0) };
        report(&finding);
        let works = finding.outcome.is_ok();
        match need {
            Need::Required if !works => verdict = Verdict::Unusable,
            Need::RequiredForSeveralWriters if !works && verdict == Verdict::Usable => {
                verdict = Verdict::SingleWriterOnly;
            }
            Need::RequiredForSingleWriter if !works && verdict == Verdict::SingleWriterOnly => {
                verdict = Verdict::Unusable;
            }
            _ => {}
        }
        works
    };
    if tell("put", Need::Required, scratch.put_some().await) {
        tell("get", Need::Required, scratch.get_back().await);
        tell("get a range of bytes", Need::Required, scratch.get_range().await);
        tell("head", Need::Required, scratch.head().await);
        tell("say that an object is missing", Need::Required, scratch.miss().await);
        tell("list", Need::Required, scratch.list().await);
        tell("list from an offset", Need::Required, scratch.list_from_offset().await);
        tell("list at once what was put", Need::Optional, scratch.list_at_once().await);
        tell("create only if new", Need::RequiredForSeveralWriters, scratch.create_twice().await);
        tell("one winner among creators", Need::RequiredForSeveralWriters, scratch.race().await);
        tell("replace", Need::RequiredForSingleWriter, scratch.replace().await);
        tell("time of a put", Need::Optional, scratch.time_puts().await);
        tell("time of a get", Need::Optional, scratch.time_gets().await);
    }
    tell("delete", Need::Required, scratch.remove_all().await);
    verdict
}

/// Whether a put that must create is refused if the object exists. Takes four requests.
///
/// # Errors
/// `Unavailable` if the store doesn't answer or refuses to be written to.
pub async fn creates_only_if_new(store: &Store, clock: &dyn Clock) -> Result<bool> {
    let scratch = Scratch::new(store.objects().as_ref(), clock);
    let path = scratch.path("once");
    let mut outcome = Ok(true);
    for bytes in ["first", "second"] {
        outcome = match scratch.create(&path, Bytes::from_static(bytes.as_bytes())).await {
            Ok(()) => Ok(false), // right the first time, and overwritten the second
            // Also the first time, if its answer was lost.
            Err(StoreError::AlreadyExists { .. }) => Ok(true),
            Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => Ok(false),
            Err(error) => {
                let message = format!("could not write to store \"{}\"", store.description());
                Err(Error::with_source(ErrorKind::Unavailable, message, error))
            }
        };
        if !matches!(outcome, Ok(false)) {
            break;
        }
    }
    if let Err(Missing(error)) = scratch.remove_all().await {
        tracing::warn!(path = path.as_ref(), error, "could not remove a scratch object; it is in nobody's way");
    }
    outcome
}

/// Why a capability is missing, as one line.
struct Missing(String);

impl Missing {
    fn because(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl From<StoreError> for Missing {
    fn from(error: StoreError) -> Self {
        // Stores answer with pages of XML.
        Self(error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// The scratch objects of one check.
struct Scratch<'a> {
    objects: &'a dyn ObjectStore,
    clock: &'a dyn Clock,
    directory: Path,
    /// Everything that may exist.
    paths: Mutex<Vec<Path>>,
}

impl<'a> Scratch<'a> {
    fn new(objects: &'a dyn ObjectStore, clock: &'a dyn Clock) -> Self {
        Self { objects, clock, directory: paths::check(clock.unique_id()), paths: Mutex::default() }
    }

    /// A path that will be removed in the end.
    fn path(&self, name: &str) -> Path {
        let path = self.directory.clone().join(name);
        self.paths.lock().push(path.clone());
        path
    }

    fn listed_path(&self, number: usize) -> Path {
        self.path(&format!("listed-{number}"))
    }

    async fn create(&self, path: &Path, bytes: Bytes) -> Result<(), StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.objects.put_opts(path, PutPayload::from_bytes(bytes), options).await.map(drop)
    }

    async fn content(&self, path: &Path) -> Result<Bytes, StoreError> {
        self.objects.get(path).await?.bytes().await
    }

    async fn put_some(&self) -> Result<String, Missing> {
        for number in 0..LISTED {
            self.objects.put(&self.listed_path(number), PutPayload::from_bytes(content())).await?;
        }
        Ok(format!("{LISTED} objects of {OBJECT_BYTES} bytes"))
    }

    async fn get_back(&self) -> Result<String, Missing> {
        let found = self.content(&self.listed_path(0)).await?;
        if found != content() {
            return Err(Missing::because(format!("other bytes came back, {} of them", found.len())));
        }
        Ok("the same bytes came back".into())
    }

    async fn get_range(&self) -> Result<String, Missing> {
        let range = 1000..1010;
        let found = self.objects.get_range(&self.listed_path(0), range).await?;
        if found != content().slice(1000..1010) {
            return Err(Missing::because(format!("10 bytes were asked for, {} came, or others", found.len())));
        }
        Ok("the bytes that were asked for".into())
    }

    async fn head(&self) -> Result<String, Missing> {
        let size = self.objects.head(&self.listed_path(0)).await?.size;
        if size != OBJECT_BYTES as u64 {
            return Err(Missing::because(format!("the size is said to be {size}")));
        }
        Ok(format!("{size} bytes"))
    }

    async fn miss(&self) -> Result<String, Missing> {
        match self.objects.get(&self.directory.clone().join("missing")).await {
            Err(StoreError::NotFound { .. }) => Ok("not found".into()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(Missing::because("an object that was never put is found")),
        }
    }

    /// The names in the scratch directory after `offset`, in order.
    async fn names(&self, offset: Option<&Path>) -> Result<Vec<Path>, StoreError> {
        let listed = match offset {
            Some(offset) => self.objects.list_with_offset(Some(&self.directory), offset),
            None => self.objects.list(Some(&self.directory)),
        };
        let mut names: Vec<Path> = listed.map_ok(|meta| meta.location).try_collect().await?;
        names.sort_unstable();
        Ok(names)
    }

    async fn list(&self) -> Result<String, Missing> {
        let expected: Vec<Path> = (0..LISTED).map(|number| self.listed_path(number)).collect();
        let mut found = self.names(None).await?;
        for _ in 1..LISTINGS_MAX {
            if found == expected {
                break;
            }
            tokio::time::sleep(LISTING_PAUSE).await;
            found = self.names(None).await?;
        }
        if found != expected {
            return Err(Missing::because(format!("{} of {LISTED} objects are listed", found.len())));
        }
        Ok(format!("{LISTED} objects"))
    }

    async fn list_from_offset(&self) -> Result<String, Missing> {
        let expected: Vec<Path> = (2..LISTED).map(|number| self.listed_path(number)).collect();
        let found = self.names(Some(&self.listed_path(1))).await?;
        if found != expected {
            return Err(Missing::because(format!("{} objects are listed in place of {}", found.len(), expected.len())));
        }
        Ok(format!("the {} objects after the offset", expected.len()))
    }

    async fn list_at_once(&self) -> Result<String, Missing> {
        let path = self.path("new");
        self.objects.put(&path, PutPayload::from_bytes(content())).await?;
        match self.names(None).await?.contains(&path) {
            true => Ok("yes".into()),
            false => Err(Missing::because("a listing is late: a start may take longer, nothing is lost")),
        }
    }

    async fn create_twice(&self) -> Result<String, Missing> {
        let path = self.path("created");
        self.create(&path, Bytes::from_static(b"first")).await?;
        match self.create(&path, Bytes::from_static(b"second")).await {
            Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return Err(Missing::because("the second put was taken and not refused")),
        }
        if self.content(&path).await? != "first" {
            return Err(Missing::because("the second put was refused and changed the object all the same"));
        }
        Ok("the second put is refused, the first content stays".into())
    }

    async fn race(&self) -> Result<String, Missing> {
        for race in 0..RACES {
            let path = self.path(&format!("race-{race}"));
            let creators: FuturesUnordered<_> = (0..CREATORS)
                .map(|creator| {
                    let path = &path;
                    async move { (creator, self.create(path, Bytes::from(creator.to_string())).await) }
                })
                .collect();
            let answers: Vec<(usize, Result<(), StoreError>)> = creators.collect().await;
            let mut winners = Vec::new();
            for (creator, answer) in answers {
                match answer {
                    Ok(()) => winners.push(creator.to_string()),
                    Err(StoreError::AlreadyExists { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let found = self.content(&path).await?;
            match winners.as_slice() {
                [winner] if found == *winner => {}
                [_] => return Err(Missing::because("the object holds what a loser put")),
                winners => {
                    return Err(Missing::because(format!("{} of {CREATORS} creators were told yes", winners.len())));
                }
            }
        }
        Ok(format!("{RACES} races of {CREATORS} creators"))
    }

    async fn replace(&self) -> Result<String, Missing> {
        let path = self.path("replaced");
        for bytes in ["first", "second"] {
            self.objects.put(&path, PutPayload::from_static(bytes.as_bytes())).await?;
        }
        match self.content(&path).await? == "second" {
            true => Ok("the new content is read at once".into()),
            false => Err(Missing::because("the old content is read after a put was answered")),
        }
    }

    async fn time_puts(&self) -> Result<String, Missing> {
        let mut times = Vec::with_capacity(TIMED_REQUESTS);
        for number in 0..TIMED_REQUESTS {
            let path = self.path(&format!("timed-{number}"));
            let begin = self.clock.elapsed();
            self.objects.put(&path, PutPayload::from_bytes(content())).await?;
            times.push(self.clock.elapsed().saturating_sub(begin));
        }
        Ok(median(times))
    }

    async fn time_gets(&self) -> Result<String, Missing> {
        let mut times = Vec::with_capacity(TIMED_REQUESTS);
        let path = self.listed_path(0);
        for _ in 0..TIMED_REQUESTS {
            let begin = self.clock.elapsed();
            self.content(&path).await?;
            times.push(self.clock.elapsed().saturating_sub(begin));
        }
        Ok(median(times))
    }

    /// Removes everything, and looks whether it is gone.
    async fn remove_all(&self) -> Result<String, Missing> {
        let mut paths = std::mem::take(&mut *self.paths.lock());
        paths.sort_unstable();
        paths.dedup();
        let mut failure = None;
        for path in &paths {
            match self.objects.delete(path).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            let Missing(reason) = error.into();
            return Err(Missing(format!("objects may be left below \"{}\": {reason}", self.directory)));
        }
        for path in paths.first().into_iter().chain(paths.last()) {
            match self.objects.get(path).await {
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Err(Missing(format!("\"{path}\" is still there after it was deleted"))),
            }
        }
        Ok(format!("the {} objects of this check", paths.len()))
    }
}

fn content() -> Bytes {
    (0..OBJECT_BYTES).map(|number| u8::try_from(number % 251).unwrap_or_default()).collect()
}

fn median(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    format!("{:.1} ms in the median of {}", median.as_secs_f64() * 1000.0, times.len())
}

#[cfg(test)]
mod tests;
