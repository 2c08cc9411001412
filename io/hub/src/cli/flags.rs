//! Flags of `serve`: `--config`, and one for each setting that is not a secret, made from the table of settings.

use sheratan_io::config;
use sheratan_io::config::table::SETTINGS;
use std::path::PathBuf;

/// The configuration's flags as arguments of a command.
#[derive(Clone, Default, Debug)]
pub struct Flags(pub config::Flags);

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Flags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        self.0.config = matches.get_one::<PathBuf>("config").cloned();
        for setting in SETTINGS.iter().filter(|setting| setting.flag().is_some()) {
            if let Some(text) = matches.get_one::<String>(setting.name) {
                self.0.settings.push((setting.name, text.clone()));
            }
        }
        Ok(())
    }
}

impl clap::Args for Flags {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = clap::Arg::new("config").long("config").value_name("FILE");
        let config = config
            .help("File of settings [default: hub.toml in the current folder, if it exists]")
            .value_parser(clap::value_parser!(PathBuf));
        SETTINGS.iter().fold(command.arg(config), |command, setting| {
            let Some(flag) = setting.flag() else { return command };
            let mut help = setting.help.to_owned();
            if !setting.default.is_empty() {
                help += &format!(" [default: {}]", setting.default);
            }
            help += &format!(" [env: {}]", setting.variable());
            command.arg(clap::Arg::new(setting.name).long(flag).value_name(setting.value_type.placeholder()).help(help))
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Flags::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_is_not_a_secret_is_a_flag_of_serve() {
        for setting in SETTINGS {
            let flag = format!("--{}", setting.name.replace('_', "-"));
            let command = <Flags as clap::Args>::augment_args(clap::Command::new("serve"));
            let matches = command.try_get_matches_from(["serve", &flag, "a value"]);
            if setting.is_secret() {
                assert!(matches.is_err(), "{flag}");
            } else {
                let Flags(flags) = <Flags as clap::FromArgMatches>::from_arg_matches(&matches.unwrap()).unwrap();
                assert_eq!(flags.settings, [(setting.name, "a value".to_owned())]);
            }
        }
    }
}
