/** Room that guests share: so much for all of them, and so much of it for one address. */
export interface Room {
  /** Takes some of it; false, and nothing taken, where there is not enough left for this address or at all. */
  readonly take: (address: string, amount: number) => boolean;
  /** Gives back what was taken. */
  readonly give: (address: string, amount: number) => void;
}

/** One address may hold a quarter: a guest that asks without end is turned away before the others are. */
const SHARE_OF_ONE = 0.25;

/** Opens room of this size, in whatever unit is taken of it. */
export function openRoom(size: number): Room {
  const ofAddress = new Map<string, number>();
  let left = size;
  return {
    take: (address, amount) => {
      const own = (ofAddress.get(address) ?? 0) + amount;
      if (amount > left || own > size * SHARE_OF_ONE) return false;
      left -= amount;
      ofAddress.set(address, own);
      return true;
    },
    give: (address, amount) => {
      const own = (ofAddress.get(address) ?? 0) - amount;
      left += amount;
      if (own > 0) ofAddress.set(address, own);
      else ofAddress.delete(address);
    },
  };
}
