let n = 0;
export const reward = ({ images }: { images: { data: Uint8Array }[] }) =>
  ++n >= 5 ? new Promise(() => {}) : images.map((x) => x.data[0]);
