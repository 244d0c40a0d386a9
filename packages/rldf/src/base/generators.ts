/** A generator whose yields are replaced; closing it closes the inner one. */
export async function* mapYields<Yield, Return, Other>(
  inner: AsyncGenerator<Yield, Return>,
  replace: (value: Yield) => Other,
): AsyncGenerator<Other, Return> {
  try {
    for (;;) {
      const next = await inner.next();
      if (next.done) return next.value;
      yield replace(next.value);
    }
  } finally {
    await inner.return(undefined as never);
  }
}
