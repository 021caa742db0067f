//! Differences with a reason, which `docs/compatibility.md` gives.

use crate::answer::Answer;
use crate::write::Written;

/// Refused as a whole: what is asked for makes no sense.
const INVALID_REQUEST: i16 = 42;

/// Whether two answers are the same, but for a difference with a reason.
pub fn is_same(api: &str, asked: &Written, ours: &Answer, theirs: &Answer) -> bool {
    ours == theirs
        || same_but_for_words(asked, ours, theirs)
        || api == "ListGroups" && *ours == without_the_never_joined(theirs, ours)
        || has_failed(theirs) && refuses(ours)
        || is_stricter(api, asked, ours, theirs)
}

/// Errors have words with us where they have a place for them; Apache Kafka leaves some out, and says NONE where all is
/// well.
fn same_but_for_words(asked: &Written, ours: &Answer, theirs: &Answer) -> bool {
    // A topic named twice, or none of its partitions, is told of once by some APIs, twice by others, or not at all: here
    // each is answered, there the last.
    let [ours, theirs] = [ours, theirs].map(|answer| match asked.repeats {
        true => answer.clone().gathered(),
        false => answer.clone(),
    });
    if ours.wordless() > theirs.wordless() {
        return false;
    }
    let [ours, theirs] = [ours, theirs].map(Answer::without_messages);
    ours == theirs || asked.repeats && ours.includes(&theirs)
}

/// Apache Kafka lists a group that nobody was let into, until it looks for empty ones.
fn without_the_never_joined(theirs: &Answer, ours: &Answer) -> Answer {
    let listed = ours.to_string();
    theirs.clone().without(&|one| {
        let text = one.to_string();
        text.contains("ProtocolType=\"\"") && text.starts_with("{GroupId=") && !listed.contains(&text)
    })
}

/// Input on which Apache Kafka itself stumbles: it says UNKNOWN_SERVER_ERROR, closes the connection, or never answers.
fn has_failed(theirs: &Answer) -> bool {
    matches!(theirs, Answer::Word(_)) || theirs.codes().contains(&-1)
}

/// Ours says what is wrong instead.
fn refuses(ours: &Answer) -> bool {
    ours.codes().iter().any(|code| *code != 0)
}

/// Ours refuses where Apache Kafka takes one of two, or finds nothing by what does not exist.
fn is_stricter(api: &str, asked: &Written, ours: &Answer, theirs: &Answer) -> bool {
    let refused = ours.codes().contains(&INVALID_REQUEST);
    match api {
        // An entity of two users, a feature that is set twice.
        "AlterClientQuotas" => refused && asked.repeats,
        "UpdateFeatures" => asked.repeats && refuses(ours),
        // A type of resource, an operation, a permission or a pattern that there is not.
        "DescribeAcls" | "DeleteAcls" => refused && theirs.finds_nothing(),
        _ => false,
    }
}
