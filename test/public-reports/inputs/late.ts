setTimeout(() => {
  throw new Error('late');
}, 1500);
export const reward = ({ images }: { images: { data: Uint8Array }[] }) => images.map((x) => x.data[0]);
