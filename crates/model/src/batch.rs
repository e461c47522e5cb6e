//! What the API and the controllers must say alike of Jobs and CronJobs: whose pods are a Job's, and when a schedule is due.

use jiff::ToSpan;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::Time;

/// Labels of a Job's pods, each under its own and under its older name.
pub const UIDS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
pub const NAMES: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// Gives a Job the labels and the selector by which its pods are its own.
pub fn select_own(job: &mut Value) {
    let (uid, name) = (job["metadata"]["uid"].clone(), job["metadata"]["name"].clone());
    let spec = &mut job["spec"];
    let labels = &mut spec["template"]["metadata"]["labels"];
    for (key, value) in UIDS.map(|key| (key, &uid)).into_iter().chain(NAMES.map(|key| (key, &name))) {
        if labels[key].is_null() {
            labels[key] = value.clone();
        }
    }
    if spec["selector"].is_null() {
        spec["selector"]["matchLabels"] = json!({UIDS[0]: uid});
    }
}

/// A schedule of cron, in UTC: minute, hour, day of the month, month, day of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// A day is one of the days or one of the weekdays; else it must be both, of which one is every day.
    either: bool,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// The 29th of February may be eight years away.
const YEARS: i16 = 9;

impl Schedule {
    /// Reads a schedule as Kubernetes does, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other if other.starts_with('@') => {
                return Err(format!("{other} is not offered: say the minutes and hours"));
            }
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!("expected exactly 5 fields, found {}: [{text}]", fields.len()));
        };
        // With a step it is not every one, as Kubernetes' parser has it.
        let every = |field: &str| field.split(',').any(|part| matches!(part, "*" | "?" | "*/1" | "?/1"));
        Ok(Self {
            minutes: set(minutes, 0, 59, &[])?,
            hours: set(hours, 0, 23, &[])?,
            days: set(days, 1, 31, &[])?,
            months: set(months, 1, 12, &MONTHS)?,
            weekdays: set(weekdays, 0, 6, &WEEKDAYS)?,
            either: !every(days) && !every(weekdays),
        })
    }

    /// The first moment after this one; none if there is no such day.
    pub fn after(&self, moment: Time) -> Option<Time> {
        let has = |set: u64, value: i8| set >> value & 1 == 1;
        let mut at = TimeZone::UTC.to_datetime(moment).checked_add(1.minute()).ok()?;
        at = at.date().at(at.hour(), at.minute(), 0, 0);
        let last = at.year().checked_add(YEARS)?;
        let midnight = |at: DateTime| at.date().at(0, 0, 0, 0);
        while at.year() < last {
            let (day, weekday) = (has(self.days, at.day()), has(self.weekdays, at.weekday().to_sunday_zero_offset()));
            at = if !has(self.months, at.month()) {
                midnight(at.first_of_month().checked_add(1.month()).ok()?)
            } else if !(if self.either { day || weekday } else { day && weekday }) {
                midnight(at.checked_add(1.day()).ok()?)
            } else if !has(self.hours, at.hour()) {
                at.date().at(at.hour(), 0, 0, 0).checked_add(1.hour()).ok()?
            } else if !has(self.minutes, at.minute()) {
                at.checked_add(1.minute()).ok()?
            } else {
                return TimeZone::UTC.to_timestamp(at).ok();
            };
        }
        None
    }

    /// The last moment after `since` that is not after `until`.
    pub fn last(&self, since: Time, until: Time) -> Option<Time> {
        // By halves: a schedule of each minute is not walked through for years.
        let next = |second: i64| self.after(Time::from_second(second).ok()?).filter(|next| *next <= until);
        let (mut before, mut after) = (since.as_second(), until.as_second());
        let mut last = next(before)?;
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            match next(middle) {
                Some(later) => (before, last) = (middle, later),
                None => after = middle,
            }
        }
        Some(last)
    }
}

/// The values that a field names: `*`, `2`, `1-5`, `*/15`, `mon-fri`, and several of them.
fn set(field: &str, least: i8, most: i8, names: &[&str]) -> Result<u64, String> {
    let mut all = 0u64;
    for part in field.split(',') {
        let wrong = |why: &str| format!("{why}: {part}");
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let value = |text: &str| {
            let named = names.iter().position(|name| text.eq_ignore_ascii_case(name)).map(|at| at as i8 + least);
            named.or_else(|| text.parse().ok().filter(|_| text.starts_with(|c: char| c.is_ascii_digit())))
        };
        let (from, to) = match range.split_once('-') {
            None if matches!(range, "*" | "?") => (Some(least), Some(most)),
            // `5/15` goes on to the end.
            None => (value(range), if step.is_some() { Some(most) } else { value(range) }),
            Some((from, to)) => (value(from), value(to)),
        };
        let (Some(from), Some(to)) = (from, to) else { return Err(wrong("failed to parse number")) };
        let step = step.map_or(Some(1), |step| step.parse::<u32>().ok()).filter(|step| *step > 0);
        let step = step.ok_or_else(|| wrong("step of range should be a positive number"))?;
        if from < least || to > most {
            return Err(wrong(&format!("not between {least} and {most}")));
        }
        if from > to {
            return Err(wrong("beginning of range beyond end of range"));
        }
        (from..=to).step_by(step as usize).for_each(|value| all |= 1 << value);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        format!("2026-{text}:00Z").parse().unwrap()
    }

    #[test]
    fn a_schedule_is_due_when_cron_says() {
        for (schedule, from, due) in [
            ("* * * * *", "01-01T00:00", "01-01T00:01"),
            ("*/15 * * * *", "01-01T00:15", "01-01T00:30"),
            ("5/20 * * * *", "01-01T00:26", "01-01T00:45"),
            ("30 2 * * *", "01-01T02:30", "01-02T02:30"),
            ("0 9 * * mon-fri", "01-02T09:00", "01-05T09:00"),
            ("0 0 31 * *", "01-31T00:00", "03-31T00:00"),
            // Both are said: either will do.
            ("0 0 13 * fri", "01-02T00:00", "01-09T00:00"),
            ("0 0 13 * 5", "01-09T00:00", "01-13T00:00"),
            ("0 0 */10 * 5", "01-02T00:00", "01-09T00:00"),
            ("0 0 */10 * 5", "01-09T00:00", "01-11T00:00"),
            ("0 */200 * * *", "01-01T00:00", "01-02T00:00"),
            ("@monthly", "01-01T00:00", "02-01T00:00"),
            ("1,2-3 4 ? JUN *", "06-01T04:02", "06-01T04:03"),
        ] {
            assert_eq!(Schedule::parse(schedule).unwrap().after(time(from)), Some(time(due)), "{schedule}");
        }
        assert_eq!(Schedule::parse("0 0 30 2 *").unwrap().after(time("01-01T00:00")), None);
        let leap = Schedule::parse("0 0 29 2 *").unwrap().after(time("01-01T00:00"));
        assert_eq!(leap, Some("2028-02-29T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn the_last_one_is_found_without_a_walk() {
        let last = |text: &str, since, until| Schedule::parse(text).unwrap().last(time(since), time(until));
        assert_eq!(last("* * * * *", "01-01T00:00", "12-01T00:00"), Some(time("12-01T00:00")));
        assert_eq!(last("0 0 1 * *", "01-02T00:00", "12-31T00:00"), Some(time("12-01T00:00")));
        assert_eq!(last("0 0 1 1 *", "01-02T00:00", "12-31T00:00"), None);
        assert_eq!(last("0 * * * *", "01-01T01:00", "01-01T01:59"), None);
    }

    #[test]
    fn what_is_no_schedule_is_said() {
        for text in ["", "* * * *", "* * * * * *", "60 * * * *", "* 5-3 * * *", "*/0 * * * *", "x * * * *", "@every 1h"]
        {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
        for text in ["+5 * * * *", "* * 0 * *", "* * * 13 *", "* * * * 7", "1- * * * *", "*/-1 * * * *"] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_moment_is_found_however_long_ago_and_however_many_there_were() {
        let last = |schedule: &str, since: &str| {
            let until = "2026-11-29T12:00:30Z".parse().unwrap();
            Schedule::parse(schedule).unwrap().last(since.parse().unwrap(), until).map(|at| at.to_string())
        };
        let long_ago = "1970-01-01T00:00:00Z";
        assert_eq!(last("* * * 1-9,12 *", long_ago).as_deref(), Some("2026-09-30T23:59:00Z"));
        assert_eq!(last("* * * * *", long_ago).as_deref(), Some("2026-11-29T12:00:00Z"));
        assert_eq!(last("0 0 29 2 *", "2020-01-01T00:00:00Z").as_deref(), Some("2024-02-29T00:00:00Z"));
        assert_eq!(last("0 12 * * *", "2026-11-29T12:00:00Z"), None, "it has been");
        assert_eq!(last("* * * * *", "2027-01-01T00:00:00Z"), None);
    }
}
