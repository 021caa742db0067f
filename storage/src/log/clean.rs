//! Compaction of one log: what of it can be cleaned, and the cleaning. Appends and reads go on meanwhile.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aqueduct_protocol::ids::Offset;

use super::read::aborted_between;
use super::{Doomed, Log, View};
use crate::cleaner::choice::{self, Bounds, SegmentFacts};
use crate::cleaner::filter::{Filter, LastRecord, LastRecords, Rules};
use crate::cleaner::groups::{self, Size};
use crate::cleaner::rewrite::{Output, Pass};
use crate::cleaner::swap::{self, Plan, Step};
use crate::cleaner::{Cleaned, CleanerLimits, Pace};
use crate::segment::Segment;
use crate::{Cleanable, Error, files};

/// What a cleaning begins with.
struct Beginning {
    view: View,
    producers: LastRecords,
    generation: u64,
}

impl Log {
    /// What could be cleaned now. `clean_to` is [`Cleaned::end`] of the cleaning before, if there was one.
    pub fn cleanable(&self, clean_to: Option<Offset>, now_ms: i64) -> Result<Cleanable, Error> {
        let (view, config) = (self.view.read().clone(), self.config());
        let with_first = choice::needs_first_timestamps(&config, now_ms);
        let mut facts = Vec::with_capacity(view.segments.len());
        for (index, segment) in view.segments.iter().enumerate() {
            let largest_timestamp = match segment.max_timestamp() {
                Some((timestamp, _)) => timestamp,
                None => segment.modified_ms()?,
            };
            facts.push(SegmentFacts {
                base_offset: segment.base_offset,
                size: view.segment_end(index).1,
                largest_timestamp,
                first_timestamp: if with_first { segment.first_timestamp()? } else { None },
            });
        }
        let bounds = Bounds { start: view.start, end: view.end, last_stable: view.last_stable() };
        Ok(choice::choose(&facts, bounds, clean_to, &config, now_ms))
    }

    /// Cleans the log up to `what.first_uncleanable`, or as far as there is memory for. Of each key the newest record stays,
    /// a tombstone until `delete.retention.ms` after the first cleaning that met it; records of aborted transactions go at
    /// once. Offsets never change.
    ///
    /// [`Error::CleaningAborted`] where `pace` ends it, or truncation, retention or the end of the log come in between: the
    /// log is sound then, and perhaps cleaned in part. [`Error::DamagedLog`], [`Error::Uncleanable`] where it makes no sense
    /// to try again. One cleaning of a log goes on at a time.
    pub fn clean(
        &self,
        what: &Cleanable,
        limits: &CleanerLimits,
        now_ms: i64,
        pace: &mut Pace<'_>,
    ) -> Result<Cleaned, Error> {
        let aborted = || Error::CleaningAborted { partition: self.partition.clone() };
        let _only_one = self.cleaning.try_lock().ok_or_else(aborted)?;
        let beginning = self.begin_cleaning()?;
        let cleaned = self.clean_from(&beginning, what, limits, now_ms, pace);
        if cleaned.is_err() {
            if self.generation.load(Ordering::Acquire) != beginning.generation {
                return Err(aborted());
            }
            if let Err(error) = self.clear_cleaning() {
                tracing::warn!(partition = %self.partition, %error, "files of a failed cleaning stay");
            }
        }
        cleaned
    }

    fn begin_cleaning(&self) -> Result<Beginning, Error> {
        self.clear_cleaning()?;
        let writer = self.writer.lock();
        self.ensure_open(&writer)?;
        let last = |state: &crate::producers::ProducerState| LastRecord {
            offset: state.batches.last().map(|batch| batch.last_offset),
            epoch: state.epoch,
        };
        Ok(Beginning {
            view: self.view.read().clone(),
            producers: writer.producers.iter().map(|(id, state)| (id, last(state))).collect(),
            generation: self.generation.load(Ordering::Acquire),
        })
    }

    /// Removes files of a cleaning that did not come to its end. While the log is open its directory is its own.
    fn clear_cleaning(&self) -> Result<(), Error> {
        let writer = self.writer.lock();
        self.ensure_open(&writer)?;
        swap::clear(&self.dir)
    }

    fn clean_from(
        &self,
        beginning: &Beginning,
        what: &Cleanable,
        limits: &CleanerLimits,
        now_ms: i64,
        pace: &mut Pace<'_>,
    ) -> Result<Cleaned, Error> {
        let (view, config) = (&beginning.view, self.config());
        let end = what.first_uncleanable.min(view.active().base_offset);
        let dirty = view.segment_of(what.first_dirty)..view.segments.partition_point(|s| s.base_offset < end);
        if dirty.is_empty() || what.first_dirty >= end {
            return Ok(Cleaned::nothing(what.first_dirty));
        }
        let generation = || self.generation.load(Ordering::Acquire) == beginning.generation;
        let mut pass = Pass {
            partition: &self.partition,
            limits,
            pace: &mut |bytes| generation() && pace(bytes),
            done: Cleaned::nothing(what.first_dirty),
            buffer: Vec::new(),
        };
        let aborted = aborted_between(&view.segments[dirty.start..], what.first_dirty, end)?;
        let map = pass.gather(&view.segments[dirty], what.first_dirty, end, aborted)?;
        let clean_to = map.latest().plus(1);
        let rules = Rules {
            map: &map,
            producers: &beginning.producers,
            range_end: end,
            delete_retention_ms: config.delete_retention_ms,
            now_ms,
        };
        let mut filter = Filter::new(rules);
        let touched = view.segments.partition_point(|s| s.base_offset < clean_to.min(end));
        let sizes: Vec<Size> = view.segments[..touched].iter().map(|s| size(s)).collect();
        let groups = groups::group(&sizes, config.segment_bytes, config.segment_index_bytes, end);
        pass.done.segments_before = touched;
        for group in groups {
            self.clean_group(beginning, group, &mut filter, &mut pass, now_ms)?;
            pass.done.segments_after += 1;
        }
        let counts = filter.counts;
        Ok(Cleaned {
            end: clean_to,
            records_read: counts.records_read,
            records_written: counts.records_kept,
            keyless: counts.keyless,
            ..pass.done
        })
    }

    fn clean_group(
        &self,
        beginning: &Beginning,
        group: Range<usize>,
        filter: &mut Filter<'_>,
        pass: &mut Pass<'_, '_>,
        now_ms: i64,
    ) -> Result<(), Error> {
        let (output, changed) = self.write_group(beginning, group.clone(), filter, pass, now_ms)?;
        let old = &beginning.view.segments[group];
        pass.done.bytes_written += output.size();
        if !changed && old.len() == 1 {
            return self.clear_cleaning();
        }
        let modified_ms = old.last().expect("a group has segments").modified_ms()?;
        let segment = output.finish(&self.dir, modified_ms)?;
        self.replace(beginning.generation, old, segment, now_ms)
    }

    /// Writes a group of segments anew beside the old ones; says whether any batch is not as it was.
    fn write_group(
        &self,
        beginning: &Beginning,
        group: Range<usize>,
        filter: &mut Filter<'_>,
        pass: &mut Pass<'_, '_>,
        now_ms: i64,
    ) -> Result<(Output, bool), Error> {
        let segments = &beginning.view.segments;
        let mut output = {
            let writer = self.writer.lock();
            self.ensure_open(&writer)?;
            Output::create(&self.dir, segments[group.start].base_offset, self.config(), now_ms)?
        };
        let before = filter.counts.changed;
        for index in group {
            let (from, to) = (segments[index].base_offset, beginning.view.segment_end(index).0);
            filter.transactions.announce(aborted_between(&segments[index..], from, to)?);
            pass.rewrite(&segments[index], filter, &mut output)?;
        }
        Ok((output, filter.counts.changed > before))
    }

    /// Puts `new`, which is complete beside them, in the place of the segments `old`.
    fn replace(&self, generation: u64, old: &[Arc<Segment>], new: Segment, now_ms: i64) -> Result<(), Error> {
        let aborted = || Error::CleaningAborted { partition: self.partition.clone() };
        let mut writer = self.writer.lock();
        self.ensure_open(&writer)?;
        let segments = self.view.read().segments.clone();
        let at = segments.iter().position(|s| Arc::ptr_eq(s, &old[0])).ok_or_else(aborted)?;
        let range = at..at + old.len();
        let is_there =
            segments.get(range.clone()).is_some_and(|s| s.iter().zip(old).all(|(a, b)| Arc::ptr_eq(a, b)));
        if !is_there || self.generation.load(Ordering::Acquire) != generation {
            return Err(aborted());
        }
        let bases: Vec<Offset> = old.iter().map(|s| s.base_offset).collect();
        let retired = self.retired_suffix(&bases);
        let plan = Plan::new(&self.dir, &bases, &retired);
        if let Err(error) = run(&plan.commit) {
            // Nothing of it may be found at the next start once the log has gone on.
            if swap::clear(&self.dir).is_err() {
                writer.closed = true;
            }
            return Err(error);
        }
        let renamed = {
            let mut held: Vec<_> = old.iter().map(|segment| segment.hold()).collect();
            let renamed = run(&plan.retire).and_then(|()| run(&plan.settle));
            held.iter_mut().for_each(|segment| segment.renamed(&retired));
            new.hold().renamed("");
            renamed
        };
        if let Err(error) = renamed {
            // The next start completes it.
            writer.closed = true;
            return Err(error);
        }
        let mut changed = segments.to_vec();
        changed.splice(range, [Arc::new(new)]);
        self.publish(|view| view.segments = Arc::new(changed));
        let due_ms = now_ms.saturating_add(self.config().file_delete_delay_ms);
        let mut paths = plan.retired();
        let mut doomed = self.doomed.lock();
        for segment in old {
            let paths = std::mem::take(&mut paths);
            doomed.push(Doomed { due_ms, segment: segment.clone(), paths });
        }
        Ok(())
    }

    /// A name ending for files that are to be removed, unlike that of others that wait for it.
    fn retired_suffix(&self, bases: &[Offset]) -> String {
        let doomed = self.doomed.lock();
        let is_taken = |suffix: &str| {
            let mut waiting = doomed.iter().flat_map(|doomed| &doomed.paths);
            waiting.any(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                files::parse(name).is_some_and(|(base, kind)| bases.contains(&base) && kind.ends_with(suffix))
            })
        };
        // The plain ending is taken by every other one, so it is the last to be free.
        let numbered = (1..).map(|n| format!(".{n}{}", files::DELETED));
        if !is_taken(files::DELETED) {
            return files::DELETED.to_owned();
        }
        numbered.into_iter().find(|suffix| !is_taken(suffix)).unwrap_or_default()
    }
}

fn run(steps: &[Step]) -> Result<(), Error> {
    steps.iter().try_for_each(Step::run)
}

fn size(segment: &Segment) -> Size {
    let (offset_index, time_index) = segment.index_sizes();
    Size { base_offset: segment.base_offset, log: segment.size(), offset_index, time_index }
}

#[cfg(test)]
#[path = "clean_tests.rs"]
mod tests;
