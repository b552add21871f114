use arbitrary::{Arbitrary, Unstructured};
use proptest::prelude::*;

use super::*;

/// What arbitrary makes of octets, as it does in `fuzz/`.
fn from_octets<T: for<'a> Arbitrary<'a> + std::fmt::Debug>(octets: usize) -> impl Strategy<Value = T> {
    prop::collection::vec(any::<u8>(), 0..octets)
        .prop_filter_map("too short", |octets| T::arbitrary_take_rest(Unstructured::new(&octets)).ok())
}

proptest! {
    #[test]
    fn a_session_is_in_step_or_not_idle(offer in from_octets(4), steps in from_octets::<Vec<Step>>(400)) {
        session_ops(offer, &steps);
    }

    #[test]
    fn a_secret_is_said_in_its_form_to_whom_it_may_concern(
        token: bool,
        user in "[a-z\0\x01]{0,3}",
        secret in "[a-z]{9,12}|[a-z\0\x01]{0,3}",
        mechanisms in "(PLAIN |login |XOAUTH2 |CRAM-MD5 ){0,4}",
        answers in prop::collection::vec("334 [a-zA-Z=]{0,8}\r\n|334 \r\n|334 \r\n|235 2.7.0 ok\r\n|535 no\r\n|250 ok\r\n|x", 0..5),
    ) {
        let answers: Vec<&[u8]> = answers.iter().map(|answer| answer.as_bytes()).collect();
        auth_challenge(token, &user, &secret, &mechanisms, &answers);
    }
}
