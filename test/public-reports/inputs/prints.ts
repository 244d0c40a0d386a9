export const reward = ({ images }: { images: { data: Uint8Array }[] }) => {
  console.log('scoring', images.length);
  process.stdout.write('raw\n');
  return images.map((x) => x.data[0]);
};
