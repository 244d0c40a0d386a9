setInterval(() => {}, 1000);
export const reward = ({ images }: { images: { data: Uint8Array }[] }) => images.map((x) => x.data[0]);
