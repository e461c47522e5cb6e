//! Names that stand for others. A resolver in a guest asks once and wants the whole answer: the CNAME and the addresses of
//! what it names, which are the zone's own, or the host's resolvers know them.

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::{Decision, IntoFqdn, TTL, is_below, local, reply};
use crate::facts::Facts;

/// The most names of which each stands for the next.
const LONGEST: usize = 8;

/// An answer that lacks what the last name says.
#[derive(Debug)]
pub struct Alias {
    answer: Message,
    /// What is to be asked elsewhere.
    pub question: Vec<u8>,
}

impl Alias {
    /// The whole answer, with what was said elsewhere.
    pub fn answer(self, said: Option<&[u8]>) -> Message {
        let mut answer = self.answer;
        match said.and_then(|bytes| Message::from_vec(bytes).ok()) {
            Some(said) => {
                answer.metadata.response_code = said.metadata.response_code;
                answer.metadata.truncation = said.metadata.truncation;
                answer.answers.extend(said.answers);
            }
            None => answer.metadata.response_code = ResponseCode::ServFail,
        }
        answer
    }
}

/// What becomes of a question for a name that stands for another; `None` if it is none of these.
pub fn decide(facts: &Facts, query: &Message, question: &Query) -> Option<Decision> {
    let zone = &facts.domain()?.zone;
    let mut name = question.name().clone();
    let mut answer = reply(query, ResponseCode::NoError);
    answer.metadata.authoritative = true;
    while let Some(target) = zone.aliases.get(&lower(&name)).filter(|_| question.query_class() == DNSClass::IN) {
        if answer.answers.len() >= LONGEST {
            return Some(Decision::Answer(reply(query, ResponseCode::ServFail)));
        }
        let target = Name::from_ascii(target).ok()?.into_fqdn();
        answer.add_answer(Record::from_rdata(name, TTL, RData::CNAME(CNAME(target.clone()))));
        name = target;
        if question.query_type() == RecordType::CNAME {
            return Some(Decision::Answer(answer));
        }
    }
    if answer.answers.is_empty() {
        return None;
    }
    let next = Query::query(name.clone(), question.query_type());
    let known = lower(&name);
    if zone.names.contains_key(&known) || zone.authority.iter().any(|suffix| is_below(&known, suffix)) {
        let said = local(facts, query, &next)?;
        answer.metadata.response_code = said.metadata.response_code;
        answer.answers.extend(said.answers);
        answer.authorities.extend(said.authorities);
        return Some(Decision::Answer(answer));
    }
    let mut asked = Message::new(query.metadata.id, query.metadata.message_type, OpCode::Query);
    asked.metadata.recursion_desired = true;
    asked.add_query(next);
    answer.metadata.authoritative = false;
    Some(Decision::Follow(Alias { answer, question: asked.to_vec().ok()? }))
}

fn lower(name: &Name) -> String {
    name.to_ascii().to_ascii_lowercase().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::consider;
    use super::*;
    use crate::sample::facts;
    use hickory_proto::rr::rdata::A;

    fn query(name: &str, kind: RecordType) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        query
    }

    fn asked(name: &str, kind: RecordType) -> Message {
        Message::from_vec(&consider(&facts(), &query(name, kind).to_vec().unwrap())).unwrap()
    }

    #[test]
    fn names_of_the_zone_are_followed() {
        let kinds = |answer: &Message| answer.answers.iter().map(Record::record_type).collect::<Vec<_>>();
        assert_eq!(kinds(&asked("In.demo.internal.", RecordType::A)), [RecordType::CNAME, RecordType::A]);
        let twice = [RecordType::CNAME, RecordType::CNAME, RecordType::A];
        assert_eq!(kinds(&asked("twice.demo.internal.", RecordType::A)), twice);
        assert_eq!(kinds(&asked("twice.demo.internal.", RecordType::CNAME)), [RecordType::CNAME]);
        let gone = asked("gone.demo.internal.", RecordType::A);
        assert_eq!((gone.metadata.response_code, gone.answers.len()), (ResponseCode::NXDomain, 1));
        assert_eq!(asked("round.demo.internal.", RecordType::A).metadata.response_code, ResponseCode::ServFail);
        assert_eq!(kinds(&asked("web-1.demo.internal.", RecordType::A)), [RecordType::A]);
    }

    #[test]
    fn names_elsewhere_are_asked_for() {
        let query = query("out.demo.internal.", RecordType::A);
        let follow = || match decide(&facts(), &query, &query.queries[0]) {
            Some(Decision::Follow(alias)) => alias,
            other => panic!("{other:?}"),
        };
        let question = Message::from_vec(&follow().question).unwrap();
        assert_eq!(question.queries[0].name().to_ascii(), "db.example.org.");
        let mut said = reply(&question, ResponseCode::NoError);
        let address = RData::A(A([192, 0, 2, 7].into()));
        said.add_answer(Record::from_rdata(Name::from_ascii("db.example.org.").unwrap(), 60, address.clone()));
        let answer = follow().answer(Some(&said.to_vec().unwrap()));
        assert_eq!((answer.metadata.id, answer.answers.len()), (query.metadata.id, 2));
        assert_eq!(answer.answers[1].data, address);
        let answer = follow().answer(None);
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::ServFail, 1));
    }
}
