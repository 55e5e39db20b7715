#define N 5
int main(void) { return N; }
