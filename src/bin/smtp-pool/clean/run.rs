//! Makes the plan of `clean`, which the run of `verify` carries out.

use super::args::CleanArgs;
use crate::{
    exit::{Failure, Result},
    verify::VerifyPlan,
};

/// Returns the plan. Options of `verify` about the format of records are refused, because a cleaned list holds none.
pub(crate) fn plan(args: &CleanArgs, logging: bool) -> Result<VerifyPlan> {
    let verify = &args.verify;
    let order = verify.keep_order.then_some("--keep-order");
    if let Some(flag) = verify.records.given().into_iter().chain(order).next() {
        return Err(Failure::usage(format_args!("{flag}: a cleaned list holds no records"))
            .hint("leave it out; `smtp-pool job results` writes the records"));
    }
    VerifyPlan::to_clean(verify, &args.rule, logging)
}
