//! Functions of the macro language that decide what is evaluated: variables, conditions, loops, scopes.

use regex::Regex;

use super::eval::{Done, Eval, Stop};
use super::number::Num;
use super::parse::{Call, Template};
use super::text::{pattern, split};
use super::world::is_true;

/// Largest number of elements in a list.
const ELEMENTS_MAX: usize = 1_000_000;

/// `%{v}`, `%{++}{v}`, `%{v}{++}`, `%{v}{delim}{i}`.
pub fn variable(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let first = eval.arg(call, 0)?;
    if call.args.len() == 1 {
        if first == "callstack" {
            out.push_str(&eval.callstack());
        } else {
            out.push_str(eval.var(&first));
        }
        return Ok(());
    }
    let second = eval.arg(call, 1)?;
    if let Some(step) = step_of(&first) {
        out.push_str(&add_to(eval, &second, step));
    } else if let (Some(step), 2) = (step_of(&second), call.args.len()) {
        out.push_str(eval.var(&first));
        add_to(eval, &first, step);
    } else {
        let index = eval.arg(call, 2)?;
        let parts = split(&pattern(&second, "")?, eval.var(&first));
        if let Some(part) = index_in(&index, parts.len()).and_then(|at| parts.get(at)) {
            out.push_str(part);
        }
    }
    Ok(())
}

fn step_of(sign: &str) -> Option<i64> {
    match sign {
        "++" => Some(1),
        "--" => Some(-1),
        _ => None,
    }
}

fn add_to(eval: &mut Eval<'_>, name: &str, step: i64) -> String {
    let value = Num::parse(eval.var(name)).add(Num::Int(step)).to_string();
    eval.set(name, &value);
    value
}

/// Empty and `*` mean the last element; a negative index counts from the end.
fn index_in(index: &str, len: usize) -> Option<usize> {
    if index.is_empty() || index == "*" {
        return len.checked_sub(1);
    }
    let index = Num::parse(index).int();
    match usize::try_from(index) {
        Ok(at) => Some(at),
        Err(_) => len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

/// `%let{v}{x}`.
pub fn assign(eval: &mut Eval<'_>, call: &Call, _out: &mut String) -> Done {
    let (name, value) = (eval.arg(call, 0)?, eval.arg(call, 1)?);
    eval.set(&name, &value);
    Ok(())
}

/// `%append{v}{x}`.
pub fn append(eval: &mut Eval<'_>, call: &Call, _out: &mut String) -> Done {
    let (name, value) = (eval.arg(call, 0)?, eval.arg(call, 1)?);
    let value = format!("{}{value}", eval.var(&name));
    eval.set(&name, &value);
    Ok(())
}

/// `%set{v}{delim}{i}{x}`: replaces element i, or appends one.
pub fn set_element(eval: &mut Eval<'_>, call: &Call, _out: &mut String) -> Done {
    let (name, delim) = (eval.arg(call, 0)?, eval.arg(call, 1)?);
    let (index, value) = (eval.arg(call, 2)?, eval.arg(call, 3)?);
    let mut parts = split(&pattern(&delim, "")?, eval.var(&name));
    if index.is_empty() || index == "*" {
        parts.push(value);
    } else if let Some(at) = index_in(&index, parts.len()).filter(|at| *at < ELEMENTS_MAX) {
        parts.resize(parts.len().max(at + 1), String::new());
        parts[at] = value;
    }
    eval.set(&name, &parts.join(&delim));
    Ok(())
}

/// `%dump-vars{}`.
pub fn dump_vars(eval: &mut Eval<'_>, _call: &Call, _out: &mut String) -> Done {
    let lines: String = eval
        .vars
        .iter()
        .map(|(name, value)| format!("{name}='{value}'\n"))
        .collect();
    eval.stderr.push_str(&lines);
    Ok(())
}

/// `%if{c}{then}{else}`, `%elsif{c1}{t1}{c2}{t2}…{else}`.
pub fn choose(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    chain(eval, call, out, true)
}

/// `%unless{c}{then}{else}`, `%elsunless{…}`.
pub fn choose_not(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    chain(eval, call, out, false)
}

/// `%if{c}{then}{else}`; further arguments are ignored.
pub fn choose_one(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    one(eval, call, out, true)
}

/// `%unless{c}{then}{else}`; further arguments are ignored.
pub fn choose_one_not(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    one(eval, call, out, false)
}

fn one(eval: &mut Eval<'_>, call: &Call, out: &mut String, wanted: bool) -> Done {
    let holds = is_true(&eval.arg(call, 0)?) == wanted;
    eval.arg_into(call, if holds { 1 } else { 2 }, out)
}

fn chain(eval: &mut Eval<'_>, call: &Call, out: &mut String, wanted: bool) -> Done {
    let mut at = 0;
    while at + 1 < call.args.len() {
        if is_true(&eval.arg(call, at)?) == wanted {
            return eval.arg_into(call, at + 1, out);
        }
        at += 2;
    }
    eval.arg_into(call, at, out)
}

/// `%while{c}{body}`.
pub fn repeat_while(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    repeat(
        eval,
        call,
        out,
        Loop {
            wanted: true,
            condition: 0,
            step: None,
            body: 1,
        },
    )
}

/// `%until{c}{body}`.
pub fn repeat_until(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    repeat(
        eval,
        call,
        out,
        Loop {
            wanted: false,
            condition: 0,
            step: None,
            body: 1,
        },
    )
}

/// `%for{init}{c}{step}{body}`.
pub fn repeat_for(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    eval.arg(call, 0)?;
    repeat(
        eval,
        call,
        out,
        Loop {
            wanted: true,
            condition: 1,
            step: Some(2),
            body: 3,
        },
    )
}

/// Which arguments of a call make up a loop.
struct Loop {
    wanted: bool,
    condition: usize,
    step: Option<usize>,
    body: usize,
}

fn repeat(eval: &mut Eval<'_>, call: &Call, out: &mut String, how: Loop) -> Done {
    // Every round evaluates something, so the bound of the evaluation ends an endless loop.
    while is_true(&eval.arg(call, how.condition)?) == how.wanted {
        if round(eval, call, how.body, out)? {
            break;
        }
        if let Some(step) = how.step {
            eval.arg(call, step)?;
        }
    }
    Ok(())
}

/// One round of a loop. True when it was the last.
fn round(eval: &mut Eval<'_>, call: &Call, body: usize, out: &mut String) -> Result<bool, Stop> {
    match eval.arg_into(call, body, out) {
        Ok(()) | Err(Stop::Next) => Ok(false),
        Err(Stop::Last) => Ok(true),
        Err(other) => Err(other),
    }
}

/// `%foreach{v}{text}{delim}{body}`.
pub fn foreach(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let (name, text, delim) = (eval.arg(call, 0)?, eval.arg(call, 1)?, eval.arg(call, 2)?);
    let delim = if delim.is_empty() {
        "\n".to_owned()
    } else {
        delim
    };
    let parts = split(&pattern(&delim, "")?, &text);
    each(eval, call, &name, parts, 3, out)
}

/// `%foreach-glob{glob}{v}{body}`.
pub fn foreach_glob(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let (glob, name) = (eval.arg(call, 0)?, eval.arg(call, 1)?);
    let found = super::glob::find(eval.world.snap, &glob);
    each(eval, call, &name, found, 2, out)
}

fn each(
    eval: &mut Eval<'_>,
    call: &Call,
    name: &str,
    values: Vec<String>,
    body: usize,
    out: &mut String,
) -> Done {
    for value in values {
        eval.set(name, &value);
        if round(eval, call, body, out)? {
            break;
        }
    }
    Ok(())
}

/// `%and{a}{b}…`: the first false operand, else the last.
pub fn all(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    deciding(eval, call, out, false)
}

/// `%or{a}{b}…`: the first true operand, else the last.
pub fn any(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    deciding(eval, call, out, true)
}

fn deciding(eval: &mut Eval<'_>, call: &Call, out: &mut String, decides: bool) -> Done {
    let mut value = String::new();
    for at in 0..call.args.len() {
        value = eval.arg(call, at)?;
        if is_true(&value) == decides {
            break;
        }
    }
    out.push_str(&value);
    Ok(())
}

/// `%protect{x}`: the argument as written.
pub fn protect(_eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    out.push_str(&call.args[0].raw);
    Ok(())
}

/// `%eval{n}{x}`: evaluates n times, each time the result of the time before.
pub fn eval_times(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let times = Num::parse(&eval.arg(call, 0)?).int();
    let mut text = call
        .args
        .get(1)
        .map_or(String::new(), |arg| arg.raw.clone());
    for _ in 0..times {
        text = again(eval, &text)?;
    }
    out.push_str(&text);
    Ok(())
}

/// `%eval-down{x}`: evaluates until nothing changes.
pub fn eval_down(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let mut text = call.args[0].raw.clone();
    loop {
        let next = again(eval, &text)?;
        if next == text {
            out.push_str(&text);
            return Ok(());
        }
        text = next;
    }
}

fn again(eval: &mut Eval<'_>, text: &str) -> Result<String, Stop> {
    let mut out = String::new();
    eval.run(&Template::from_source(text), &mut out)?;
    Ok(out)
}

/// `%tmp{x}`: what is assigned inside is forgotten behind it.
pub fn in_copy(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let before = eval.vars.clone();
    let done = eval.arg_into(call, 0, out);
    eval.vars = before;
    done
}

/// `%call{name}{args}`: runs a macro in a copy of the scope.
pub fn call_macro(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let before = eval.vars.clone();
    let done = include(eval, call, out);
    eval.vars = before;
    done
}

/// `%include{name}{args}`: runs a macro in the current scope.
pub fn include(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let (name, args) = (eval.arg(call, 0)?, eval.args(call, 1)?);
    let found = eval
        .library
        .find_any(&name, &mut eval.stderr)
        .ok_or_else(|| Stop::Fatal(format!("cannot find macro '{name}'")))?;
    eval.run_macro(&found, &args, out)
}

/// `%callstack{}`.
pub fn callstack(eval: &mut Eval<'_>, _call: &Call, out: &mut String) -> Done {
    out.push_str(&eval.callstack());
    Ok(())
}

/// `%next{}`.
pub fn next(_eval: &mut Eval<'_>, _call: &Call, _out: &mut String) -> Done {
    Err(Stop::Next)
}

/// `%last{}`.
pub fn last(_eval: &mut Eval<'_>, _call: &Call, _out: &mut String) -> Done {
    Err(Stop::Last)
}

/// `%return{}`.
pub fn leave(_eval: &mut Eval<'_>, _call: &Call, _out: &mut String) -> Done {
    Err(Stop::Return)
}

/// `%abort{}`, `%stop-eval{}`.
pub fn abort(_eval: &mut Eval<'_>, _call: &Call, _out: &mut String) -> Done {
    Err(Stop::Abort)
}

/// `%warn{t}`.
pub fn warn(eval: &mut Eval<'_>, call: &Call, _out: &mut String) -> Done {
    let text = eval.arg(call, 0)?;
    eval.stderr.push_str(&format!("WARNING: {text}"));
    Ok(())
}

/// `%die{t}`.
pub fn die(eval: &mut Eval<'_>, call: &Call, _out: &mut String) -> Done {
    let text = eval.arg(call, 0)?;
    Err(Stop::Fatal(text.trim_end_matches('\n').to_owned()))
}

/// `%sleep{s}`, `%timeout{s}`: a snapshot does not change, so a pause would show nothing new.
pub fn pause(eval: &mut Eval<'_>, call: &Call, _out: &mut String) -> Done {
    eval.arg(call, 0).map(drop)
}

/// `%wait{cond}`: ends the evaluation unless the condition holds; the caller comes again with a newer snapshot.
pub fn wait(eval: &mut Eval<'_>, call: &Call, _out: &mut String) -> Done {
    if is_true(&eval.arg(call, 0)?) {
        return Ok(());
    }
    Err(Stop::Unreached)
}

/// `%wait-cluster{hosts}`: until these peers, or all, have given a sign of life.
pub fn wait_cluster(eval: &mut Eval<'_>, call: &Call, _out: &mut String) -> Done {
    let named = eval.arg(call, 0)?;
    let named = named
        .split([',', ' ', '\n'])
        .filter(|name| !name.is_empty());
    let mut hosts: Vec<&str> = named.collect();
    if hosts.is_empty() {
        hosts = eval.world.configured_peers();
    }
    let (here, window) = (eval.world.snap.host.as_str(), eval.options.window);
    let mut others = hosts.iter().filter(|host| **host != here);
    match others.all(|host| eval.world.is_alive(host, window)) {
        true => Ok(()),
        false => Err(Stop::Unreached),
    }
}

/// `%wait-resource{condition}`: `is-…` or `todo-…`, `-on` or `-off`, as the command of that name.
pub fn wait_resource(eval: &mut Eval<'_>, call: &Call, _out: &mut String) -> Done {
    let condition = eval.arg(call, 0)?;
    super::state::wait_for_condition(eval, &condition)
}

/// `%get-glob{glob}{}{delim}`: what lies in the tree under names of that form.
pub fn get_glob(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let (glob, delim) = (eval.arg(call, 0)?, eval.arg(call, 2)?);
    let delim = if delim.is_empty() { "\n" } else { &delim };
    out.push_str(&super::glob::find(eval.world.snap, &glob).join(delim));
    Ok(())
}

/// `%readlink{key}`.
pub fn readlink(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let key = eval.arg(call, 0)?;
    out.push_str(eval.world.text(below_mars(&key)));
    Ok(())
}

/// `%setlink{value}{key}`: notes the wish; the command sets the key at its end.
pub fn setlink(eval: &mut Eval<'_>, call: &Call, _out: &mut String) -> Done {
    let (value, key) = (eval.arg(call, 0)?, eval.arg(call, 1)?);
    eval.changes.push((below_mars(&key).to_owned(), value));
    Ok(())
}

fn below_mars(key: &str) -> &str {
    key.strip_prefix("/mars/").unwrap_or(key)
}

/// `%time{}`: the Lamport time of the snapshot; `%real-time{}`: the time of day in whole seconds, where there is one.
pub fn time(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let now = eval.world.snap.now;
    if call.plain_name().starts_with("real") {
        out.push_str(&eval.here.wall.unwrap_or(now).sec.to_string());
    } else {
        out.push_str(&now.to_string());
    }
    Ok(())
}

/// `%subst{text}{re}{repl}{opts}`.
pub fn substitute(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let (text, re) = (eval.arg(call, 0)?, eval.arg(call, 1)?);
    let (with, options) = (eval.arg(call, 2)?, eval.arg(call, 3)?);
    let re: Regex = pattern(&re, &options)?;
    let with = regex::NoExpand(&with);
    let limit = usize::from(!options.contains('g'));
    out.push_str(&re.replacen(&text, limit, with));
    Ok(())
}
