/** How many pictures one command draws at most, and an epoch holds. */
export const mostPictures = 1_000_000;
