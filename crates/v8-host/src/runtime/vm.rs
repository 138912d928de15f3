//! `node:vm` without code caches of the caller's: V8 trusts what is in them, so a cell could hand it
//! machine state that it made up.

use std::cell::RefCell;
use std::rc::Rc;

use deno_core::OpDecl;
use deno_core::OpState;
use deno_core::ascii_str;
use deno_core::op2;
use deno_core::v8;
use deno_runtime::deno_node::ops::vm;

/// Deno's own operations, which `kernel.js` hands over before anything else can reach them.
struct Originals {
  create_script: v8::Global<v8::Function>,
  compile_function: v8::Global<v8::Function>,
}

/// Deno's `op_vm_create_script`, under a name that nothing replaces.
pub(super) const fn op_kernel_vm_original_script() -> OpDecl {
  let mut op = vm::op_vm_create_script();
  op.name = "op_kernel_vm_original_script";
  op.name_fast = ascii_str!("op_kernel_vm_original_script");
  op
}

/// Deno's `op_vm_compile_function`, under a name that nothing replaces.
pub(super) const fn op_kernel_vm_original_function() -> OpDecl {
  let mut op = vm::op_vm_compile_function();
  op.name = "op_kernel_vm_original_function";
  op.name_fast = ascii_str!("op_kernel_vm_original_function");
  op
}

#[op2]
pub(crate) fn op_kernel_vm_originals(
  state: &mut OpState,
  #[scoped] create_script: v8::Global<v8::Function>,
  #[scoped] compile_function: v8::Global<v8::Function>,
) {
  state.put(Originals {
    create_script,
    compile_function,
  });
}

/// Where the code cache is among the arguments of both operations.
const CACHED_DATA: usize = 4;

#[op2(reentrant)]
#[allow(
  clippy::too_many_arguments,
  clippy::needless_pass_by_value,
  reason = "those of the operation that it stands for"
)]
pub(crate) fn op_kernel_vm_create_script<'a>(
  scope: &mut v8::PinScope<'a, '_>,
  state: Rc<RefCell<OpState>>,
  source: v8::Local<'a, v8::Value>,
  filename: v8::Local<'a, v8::Value>,
  line_offset: v8::Local<'a, v8::Value>,
  column_offset: v8::Local<'a, v8::Value>,
  cached_data: v8::Local<'a, v8::Value>,
  produce_cached_data: v8::Local<'a, v8::Value>,
  parsing_context: v8::Local<'a, v8::Value>,
  import_id: v8::Local<'a, v8::Value>,
) -> v8::Local<'a, v8::Value> {
  let original = original(&state, |originals| &originals.create_script);
  let arguments = [
    source,
    filename,
    line_offset,
    column_offset,
    cached_data,
    produce_cached_data,
    parsing_context,
    import_id,
  ];
  without_cache(scope, original, arguments)
}

#[op2(reentrant)]
#[allow(
  clippy::too_many_arguments,
  clippy::needless_pass_by_value,
  reason = "those of the operation that it stands for"
)]
pub(crate) fn op_kernel_vm_compile_function<'a>(
  scope: &mut v8::PinScope<'a, '_>,
  state: Rc<RefCell<OpState>>,
  source: v8::Local<'a, v8::Value>,
  filename: v8::Local<'a, v8::Value>,
  line_offset: v8::Local<'a, v8::Value>,
  column_offset: v8::Local<'a, v8::Value>,
  cached_data: v8::Local<'a, v8::Value>,
  produce_cached_data: v8::Local<'a, v8::Value>,
  parsing_context: v8::Local<'a, v8::Value>,
  context_extensions: v8::Local<'a, v8::Value>,
  params: v8::Local<'a, v8::Value>,
  import_id: v8::Local<'a, v8::Value>,
) -> v8::Local<'a, v8::Value> {
  let original = original(&state, |originals| &originals.compile_function);
  let arguments = [
    source,
    filename,
    line_offset,
    column_offset,
    cached_data,
    produce_cached_data,
    parsing_context,
    context_extensions,
    params,
    import_id,
  ];
  without_cache(scope, original, arguments)
}

fn original(
  state: &RefCell<OpState>,
  which: impl FnOnce(&Originals) -> &v8::Global<v8::Function>,
) -> Option<v8::Global<v8::Function>> {
  state.borrow().try_borrow::<Originals>().map(which).cloned()
}

/// Calls the operation without the code cache, and says that the cache was rejected.
fn without_cache<'a, const N: usize>(
  scope: &mut v8::PinScope<'a, '_>,
  original: Option<v8::Global<v8::Function>>,
  mut arguments: [v8::Local<'a, v8::Value>; N],
) -> v8::Local<'a, v8::Value> {
  let undefined: v8::Local<'_, v8::Value> = v8::undefined(scope).into();
  let had_cache = !arguments[CACHED_DATA].is_null_or_undefined();
  arguments[CACHED_DATA] = undefined;
  let result = original.and_then(|original| {
    let original = v8::Local::new(scope, original);
    original.call(scope, undefined, &arguments)
  });
  // Where it failed its exception is pending.
  let Some(result) = result else {
    return undefined;
  };
  if had_cache
    && let Ok(result) = v8::Local::<v8::Object>::try_from(result)
    && let Some(name) = v8::String::new(scope, "cachedDataRejected")
  {
    let rejected = v8::Boolean::new(scope, true);
    result.set(scope, name.into(), rejected.into());
  }
  result
}
