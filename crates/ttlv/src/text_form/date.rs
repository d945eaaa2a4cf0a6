//! Dates as ISO 8601 has them (Additional Message Encodings 1.0 §4.1.6.11).

use nom::branch::alt;
use nom::bytes::complete::take_while_m_n;
use nom::character::complete::{char as letter, digit1};
use nom::combinator::{all_consuming, map_res, opt, value};
use nom::sequence::preceded;
use nom::{IResult, Parser};
use time::{Date, Month};

const DAY: i64 = 86_400;
/// The day number that 1970 begins with.
const EPOCH: i32 = 2_440_588;

/// Years 1 to 9999, whose dates every reader understands.
const WRITABLE: core::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Year, month, day, hour, minute, second in UTC; `None` where the year has no four digits.
pub(crate) fn parts(seconds: i64) -> Option<[i32; 6]> {
    if !WRITABLE.contains(&seconds) {
        return None;
    }
    let day = i32::try_from(seconds.div_euclid(DAY)).ok()?;
    let (year, month, day) = Date::from_julian_day(day + EPOCH).ok()?.to_calendar_date();
    let second = i32::try_from(seconds.rem_euclid(DAY)).ok()?;
    Some([
        year,
        u8::from(month).into(),
        day.into(),
        second / 3600,
        second / 60 % 60,
        second % 60,
    ])
}

fn number<'t>(
    digits: usize,
) -> impl Parser<&'t str, Output = i32, Error = nom::error::Error<&'t str>> {
    map_res(
        take_while_m_n(digits, digits, |c: char| c.is_ascii_digit()),
        str::parse,
    )
}

/// Hours and minutes east of Greenwich, in minutes.
fn zone(input: &str) -> IResult<&str, i32> {
    let sign = alt((value(1, letter('+')), value(-1, letter('-'))));
    map_res(
        (sign, number(2), preceded(letter(':'), number(2))),
        |(sign, hours, minutes)| {
            let far = hours * 60 + minutes;
            if minutes < 60 && far <= 14 * 60 {
                Ok(sign * far)
            } else {
                Err(())
            }
        },
    )
    .parse(input)
}

/// Seconds since 1970, and the digits behind the second. No zone means UTC; year 0000 is the one before 0001.
pub(crate) fn seconds(text: &str) -> Option<(i64, &str)> {
    let parsed: IResult<&str, _> = all_consuming((
        opt(letter('-')),
        number(4),
        preceded(letter('-'), number(2)),
        preceded(letter('-'), number(2)),
        preceded(letter('T'), number(2)),
        preceded(letter(':'), number(2)),
        preceded(letter(':'), number(2)),
        opt(preceded(letter('.'), digit1)),
        opt(alt((value(0, letter('Z')), zone))),
    ))
    .parse(text);
    let (_, (before, year, month, day, hour, minute, second, fraction, zone)) = parsed.ok()?;
    let year = if before.is_some() { -year } else { year };
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(year, month, u8::try_from(day).ok()?).ok()?;
    // 24:00:00 is the next day's beginning (XML Schema 1.1 Part 2 §3.3.7).
    if minute > 59 || second > 59 || hour > 23 && (hour, minute, second) != (24, 0, 0) {
        return None;
    }
    let minutes = hour * 60 + minute - zone.unwrap_or(0);
    let days = i64::from(date.to_julian_day() - EPOCH);
    Some((
        days * DAY + i64::from(minutes) * 60 + i64::from(second),
        fraction.unwrap_or_default(),
    ))
}

/// Microseconds since 1970; `None` for more than six digits behind the second, too.
pub(crate) fn microseconds(text: &str) -> Option<i64> {
    let (seconds, fraction) = seconds(text)?;
    let missing = 6usize.checked_sub(fraction.len())?;
    let number: i64 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    Some(seconds * 1_000_000 + number * 10i64.pow(u32::try_from(missing).ok()?))
}
