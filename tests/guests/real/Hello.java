import java.util.stream.*;
public class Hello {
  public static void main(String[] a) throws Exception {
    long sum = IntStream.range(0, 1_000_000).parallel().asLongStream().sum();
    Thread[] t = new Thread[8];
    var q = new java.util.concurrent.LinkedBlockingQueue<Integer>();
    for (int i = 0; i < 8; i++) { final int n = i; (t[i] = new Thread(() -> q.add(n))).start(); }
    for (var one : t) one.join();
    System.gc();
    System.out.println(sum + " " + q.size());
  }
}
