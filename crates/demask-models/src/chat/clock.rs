/// A moment in UTC, for templates that print the date. The caller supplies it; nothing in this
/// crate reads a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub unix_seconds: i64,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl Clock {
    /// Year, month (1 to 12) and day of the month in the Gregorian calendar (H. Hinnant's
    /// `civil_from_days`).
    fn date(self) -> (i64, usize, i64) {
        let z = self.unix_seconds.div_euclid(86_400).saturating_add(719_468);
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + i64::from(month <= 2);
        (year, month as usize, doy - (153 * mp + 2) / 5 + 1)
    }

    /// Formats like Python's `strftime`: `%Y %y %m %d %B %b %A %a %H %I %M %S %p %j %%`.
    ///
    /// # Errors
    /// The directive that is not known.
    pub fn strftime(self, format: &str) -> Result<String, String> {
        let (year, month, day) = self.date();
        let second = self.unix_seconds.rem_euclid(86_400);
        let hour = second / 3600;
        let weekday = (self.unix_seconds.div_euclid(86_400) + 4).rem_euclid(7) as usize;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month - 1];
        let year_day = before + day + i64::from(leap && month > 2);
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            out += &match chars.next() {
                Some('Y') => format!("{year:04}"),
                Some('y') => format!("{:02}", year.rem_euclid(100)),
                Some('m') => format!("{month:02}"),
                Some('d') => format!("{day:02}"),
                Some('B') => MONTHS[month - 1].to_string(),
                Some('b') => MONTHS[month - 1][..3].to_string(),
                Some('A') => DAYS[weekday].to_string(),
                Some('a') => DAYS[weekday][..3].to_string(),
                Some('H') => format!("{hour:02}"),
                Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
                Some('M') => format!("{:02}", second / 60 % 60),
                Some('S') => format!("{:02}", second % 60),
                Some('p') => if hour < 12 { "AM" } else { "PM" }.to_string(),
                Some('j') => format!("{year_day:03}"),
                Some('%') => "%".to_string(),
                Some(other) => return Err(format!("strftime: `%{other}` is not known")),
                None => return Err("strftime: `%` at the end".to_string()),
            };
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        let show = |unix_seconds, format| Clock { unix_seconds }.strftime(format).unwrap();
        assert_eq!(
            show(0, "%A %d %B %Y %H:%M:%S"),
            "Thursday 01 January 1970 00:00:00"
        );
        assert_eq!(
            show(1_709_210_096, "%Y-%m-%d %I:%M:%S %p %j"),
            "2024-02-29 12:34:56 PM 060"
        );
        assert_eq!(show(-1, "%a %b %d %y"), "Wed Dec 31 69");
        assert!(Clock { unix_seconds: 0 }.strftime("%Q").is_err());
        assert!(Clock { unix_seconds: 0 }.strftime("%").is_err());
    }
}
